"""What lost workers were at is found by whoever watches their queue: once, and never from one that is still alive."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from redis import Redis
from rq import Queue, SimpleWorker
from rq.executions import Execution
from rq.job import Job
from rq.serializers import JSONSerializer

from shared.forecast_queue import ForecastQueue
from shared.lost_work import LOOKS_APART_S, LOST_AFTER_S, SIGN_EVERY_S, STRANDED_AFTER_S, LostWork, hold
from tests.builders import forecast_request, settings


@dataclass
class Clock:
    now: float = 0.0

    def __call__(self) -> float:
        return self.now


class House:
    """A queue, a clock, and workers of RQ of which nothing is heard but what a test has them say."""

    def __init__(self, redis: Redis) -> None:
        self.redis, self.clock = redis, Clock()
        self.forecasts = ForecastQueue(redis, settings().queue)
        self.queue = Queue(settings().queue.name, connection=redis, serializer=JSONSerializer)

    def enqueue(self, *ids: str) -> None:
        for one in ids:
            assert self.forecasts.enqueue(one, forecast_request())

    def take(self) -> Job:
        """The next job leaves the queue, and its worker dies before it begins."""
        taken = Queue.dequeue_any([self.queue], None, connection=self.redis, serializer=JSONSerializer)
        assert taken is not None
        return taken[0]

    def begin(self) -> Execution:
        """The next job is begun by a worker."""
        worker = SimpleWorker([self.queue], connection=self.redis, serializer=JSONSerializer)
        job = self.take()
        execution = worker.prepare_execution(job)
        worker.prepare_job_execution(job, remove_from_intermediate_queue=True)
        return execution

    def begin_and_die_at_once(self) -> None:
        """The next job is its worker's, which gets no further."""
        worker = SimpleWorker([self.queue], connection=self.redis, serializer=JSONSerializer)
        job = self.take()
        assert hold(self.queue, job.id, worker.prepare_execution(job).id)

    def beat(self, execution: Execution) -> None:
        with self.redis.pipeline() as pipe:
            execution.heartbeat(self.queue.started_job_registry, 600, pipe)
            pipe.execute()

    def watch(self) -> LostWork:
        return LostWork(self.queue, lambda _: False, self.clock)

    def watched_for(self, seconds: float, *watches: LostWork, alive: Execution | None = None) -> list[str]:
        """What is given back meanwhile."""
        found, until = [], self.clock.now + seconds
        while self.clock.now < until:
            if alive is not None:
                self.beat(alive)
            found += [job_id for watch in watches for job_id in watch.look()]
            self.clock.now += SIGN_EVERY_S
        return found


@pytest.fixture
def house(redis: Redis) -> House:
    return House(redis)


def test_a_job_of_a_silent_worker_is_back_within_a_minute_and_only_once(house: House) -> None:
    house.enqueue("orphan", "next")
    house.begin()
    assert house.watched_for(60, house.watch(), house.watch()) == ["orphan"]
    assert sorted(house.queue.job_ids) == ["next", "orphan"]
    assert house.forecasts.status("orphan").state == "queued"


def test_a_worker_that_gives_signs_of_life_keeps_its_job_however_long_that_takes(house: House) -> None:
    house.enqueue("long")
    alive = house.begin()
    assert house.watched_for(10 * LOST_AFTER_S, house.watch(), alive=alive) == []
    assert house.forecasts.status("long").state == "running"


def test_time_in_which_nobody_could_look_does_not_count_as_silence(house: House) -> None:
    house.enqueue("long")
    alive, watch = house.begin(), house.watch()
    assert house.watched_for(LOST_AFTER_S - SIGN_EVERY_S, watch) == []
    house.clock.now += LOOKS_APART_S + 1  # Redis was away
    assert house.watched_for(LOST_AFTER_S - SIGN_EVERY_S, watch) == []
    house.beat(alive)
    assert house.watched_for(LOST_AFTER_S - SIGN_EVERY_S, watch) == []


def test_a_job_that_its_worker_took_and_never_began_is_back_at_the_head_of_the_queue(house: House) -> None:
    house.enqueue("taken", "next")
    house.take()
    assert house.queue.job_ids == ["next"]
    assert house.watched_for(STRANDED_AFTER_S + 2 * SIGN_EVERY_S, house.watch(), house.watch()) == ["taken"]
    assert house.queue.job_ids == ["taken", "next"]


def test_a_job_that_was_put_back_is_no_longer_his_who_took_it(house: House) -> None:
    house.enqueue("taken")
    house.take()
    assert house.watched_for(STRANDED_AFTER_S + 2 * SIGN_EVERY_S, house.watch()) == ["taken"]
    assert not hold(house.queue, "taken", "of the first")
    house.take()
    assert hold(house.queue, "taken", "of the second")
    assert hold(house.queue, "taken", "of the second"), "asked again, since the answer was lost"
    assert not hold(house.queue, "taken", "of the first")


def test_a_job_whose_worker_died_in_the_moment_in_which_it_began_is_back_as_well(house: House) -> None:
    house.enqueue("begun")
    house.begin_and_die_at_once()
    assert house.watched_for(60, house.watch(), house.watch()) == ["begun"]
    assert house.queue.job_ids == ["begun"]


def test_a_job_that_loses_its_worker_each_time_fails_after_its_retries_and_says_why(house: House) -> None:
    house.enqueue("poisoned")
    tries = 1 + settings().queue.retries
    for _ in range(tries):
        job = house.begin().job
        job.meta["tries"] = job.meta.get("tries", 0) + 1
        job.save_meta()
        assert house.watched_for(60, house.watch()) == ["poisoned"]
    assert house.queue.job_ids == []
    status = house.forecasts.status("poisoned")
    assert (status.state, status.tries) == ("failed", tries)
    assert f"Its worker was lost {tries} times" in str(status.error)
