"""The queue of forecasts: enqueue by dotted name, ask how a job stands, cancel it, and report progress from within one.

With the worker, the only room that knows RQ. Requests cross as plain JSON; results do not cross at all: a job stores its
forecast and returns the id.

Beside RQ's fields a job's hash has one of ours, `settled`: whoever writes it first decides how the job ends. It is
`cancelled` by whom the forecast is no longer wanted, `made` by the worker that is about to store it.

    kronos:asked:<what is asked>    id of the forecast that was last enqueued for it, for a day
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from typing import Any, cast

from pydantic import ValidationError
from redis import Redis
from redis.client import Pipeline
from rq import Queue, Retry, get_current_job
from rq.exceptions import DeserializationError, DuplicateJobError, NoSuchJobError
from rq.executions import Execution
from rq.job import Dependency, Job
from rq.job import JobStatus as RqStatus
from rq.queue import EnqueueData
from rq.serializers import JSONSerializer
from rq.utils import now

from shared.contract import JOB_VERSION, VERSION
from shared.errors import AlreadyEndedError, ForecastCancelledError, KlinesNotFetchedError, NotFoundError
from shared.failed_jobs import FailedJob, failed_jobs, why_failed
from shared.fetches import Fetch, Fetches, Fetching, snapshot_of
from shared.forecasts import ForecastRequest, JobState, JobStatus, Progress
from shared.kept_answers import KeptAnswers
from shared.klines import Interval
from shared.lost_work import LostWork
from shared.queue_overview import (
    JobCounts,
    QueueStatus,
    WorkerStatus,
    Workforce,
    counts_question,
    queues_question,
    workers_question,
    workforce_question,
)
from shared.queue_workers import names_question, release_abandoned
from shared.redis_connection import check_writable, redis_errors_translated
from shared.redis_questions import Answers, Question, ask_together
from shared.settings import LANES, Lane, QueueSettings

FORECAST_JOB = "services.inference.jobs.run_forecast"
SCORING_JOB = "services.inference.jobs.score_series"
FINISHED_JOB_TTL_S = 600  # the forecast itself is kept in the forecast store
LOOKED_THROUGH = 256  # jobs at the head of the queue, for those that can be taken along
ASKED_TTL_S = 86_400
SETTLED, CANCELLED, MADE = "settled", b"cancelled", b"made"

# Puts a job that was taken out of the queue at its end, and says how many wait then.
_LEAVE = """
redis.call('LREM', KEYS[2], 1, ARGV[1])
return redis.call('RPUSH', KEYS[1], ARGV[1])
"""

_STATES: dict[RqStatus, JobState] = {
    RqStatus.QUEUED: "queued",
    RqStatus.SCHEDULED: "queued",
    RqStatus.DEFERRED: "queued",
    RqStatus.READY_TO_ENQUEUE: "queued",
    RqStatus.STARTED: "running",
    RqStatus.FINISHED: "finished",
}  # all others (failed, stopped, canceled) end without a forecast


@dataclass(frozen=True)
class Wanted:
    """A forecast to enqueue. `names_seed`: whether somebody chose its seed, or any will do; `fetch`: what is to bring its
    klines, which its request then does not name.
    """

    forecast_id: str
    request: ForecastRequest
    names_seed: bool
    fetch: Fetch | None = None

    def asked_key(self) -> str:
        """The same for two alone that ask for the same thing; one that names no seed asks for any draw."""
        left_out = {"fetched_by", *(() if self.names_seed else ("seed",))}
        asked = f"{self.fetch.key if self.fetch else ''}{self.request.model_dump_json(exclude=left_out)}"
        return f"kronos:asked:{hashlib.sha256(asked.encode()).hexdigest()}"


@dataclass(frozen=True)
class Asked:
    """The forecast that stands for what was wanted; `reused`: it was asked for before."""

    forecast_id: str
    reused: bool


class ForecastQueue:
    """The forecasts that wait, run or have failed, in whichever lane."""

    def __init__(self, redis: Redis, settings: QueueSettings) -> None:
        self._redis = redis
        self._settings = settings
        self._queues = {
            lane: Queue(settings.forecasts_in(lane), connection=redis, serializer=JSONSerializer) for lane in LANES
        }
        self.answers = KeptAnswers(redis)  # to what was asked of this queue
        self.fetches = Fetches(redis, settings)  # what some of these forecasts wait for

    @redis_errors_translated()
    def enqueue(self, forecast_id: str, request: ForecastRequest) -> bool:
        """Put a forecast in the queue; False where one of that id already waits, runs or has just been made.

        One that has failed for good is asked for anew, since whoever asks again may have mended the reason; so is one
        that was cancelled, once its worker has let go of it.

        RQ refuses the duplicate atomically, so two ingests that see the same candle make one forecast.
        """
        self._forget_failed(forecast_id)
        try:
            self._queue_for(request).enqueue_call(FORECAST_JOB, unique=True, **self._job(forecast_id, request))
        except DuplicateJobError:
            return False
        return True

    @redis_errors_translated()
    def enqueue_scoring(self, symbol: str, interval: Interval, last_open_time_ms: int) -> bool:
        """Have a series' closed forecasts scored, once a candle; False where that is in the queue already."""
        job_id = f"score-{symbol}-{interval}-{last_open_time_ms}"
        self._forget_failed(job_id)
        try:
            self._queues["light"].enqueue_call(
                SCORING_JOB,
                args=(symbol, str(interval)),
                job_id=job_id,
                timeout=self._settings.job_timeout,
                result_ttl=FINISHED_JOB_TTL_S,
                failure_ttl=self._settings.failure_ttl,
                retry=Retry(max=self._settings.retries) if self._settings.retries else None,
                description=f"scores of {symbol} {interval}",
                meta={VERSION: JOB_VERSION},
                unique=True,
            )
        except DuplicateJobError:
            return False
        return True

    @redis_errors_translated()
    def enqueue_many(
        self,
        wanted: Sequence[Wanted],
        is_of_use: Callable[[str], bool],
        check: Callable[[Sequence[Wanted], Sequence[Fetch]], None],
    ) -> list[Asked]:
        """Put forecasts in the queue, all in one transaction, so that one worker can see them together; where one that is
        wanted was asked for before and `is_of_use` still (by its id), that one stands for it.

        One whose klines are still to be fetched waits for its fetch, which others may share, and joins the queue when
        that has ended. Their ids must be new (`adhoc_forecast_id`): RQ does not look for duplicates here. `check` is told
        what is to be enqueued and which fetches for it, and raises where those may not be. Returns what stands for each,
        in their order.
        """
        names = [one.asked_key() for one in wanted]

        def ask(pipe: Pipeline) -> Any:
            before = [one.decode() if one else None for one in cast("list[bytes | None]", pipe.mget(names))]
            reused = [one if one is not None and is_of_use(one) else None for one in before]
            new = [(name, one) for name, one, other in zip(names, wanted, reused, strict=True) if other is None]
            fetching = {one.fetch: self.fetches.find(pipe, one.fetch) for _, one in new if one.fetch}
            to_fetch = [fetch for fetch, found in fetching.items() if found is None]
            check([one for _, one in new], to_fetch)
            pipe.multi()
            for name, one in new:
                pipe.set(name, one.forecast_id, ex=ASKED_TTL_S)
            found = {fetch: there or self.fetches.enqueue(pipe, fetch) for fetch, there in fetching.items()}
            self._enqueue(pipe, [(one, found[one.fetch] if one.fetch else None) for _, one in new])
            return [
                Asked(other or one.forecast_id, reused=other is not None)
                for one, other in zip(wanted, reused, strict=True)
            ]

        return cast("list[Asked]", self._redis.transaction(ask, *names, value_from_callable=True))

    def _enqueue(self, pipe: Pipeline, new: Sequence[tuple[Wanted, Fetching | None]]) -> None:
        """Each joins the queue, unless its klines are still to come: then it waits in RQ's registry of deferred jobs."""
        at_once: dict[Lane, list[EnqueueData]] = defaultdict(list)
        for one, fetching in new:
            known = {"snapshot_id": fetching.snapshot_id or "", "fetched_by": fetching.fetch_id} if fetching else {}
            job = self._job(one.forecast_id, one.request.model_copy(update=known))
            if fetching is None or fetching.snapshot_id:
                at_once[self.lane_of(one.request.model)].append(Queue.prepare_data(FORECAST_JOB, **job))
            else:
                self._defer(pipe, self._queue_for(one.request), job, fetching.fetch_id)
        for lane, some in at_once.items():
            self._queues[lane].enqueue_many(some, pipeline=pipe)

    @staticmethod
    def _defer(pipe: Pipeline, queue: Queue, job: dict[str, Any], fetch_id: str) -> None:
        """What RQ's `enqueue_many` does with a job that depends on another, which it cannot do in the caller's transaction.

        The job also runs after a fetch that failed, and says why.
        """
        after = Dependency(jobs=[fetch_id], allow_failure=True)
        waiting = queue.create_job(FORECAST_JOB, **job, depends_on=after, status=RqStatus.DEFERRED)
        waiting.enqueued_at = now()
        waiting.register_dependency(pipeline=pipe)
        waiting.save(pipeline=pipe)

    def _job(self, forecast_id: str, request: ForecastRequest) -> dict[str, Any]:
        return {
            "args": (forecast_id, request.model_dump(mode="json")),
            "job_id": forecast_id,
            "timeout": self._settings.job_timeout,
            "result_ttl": FINISHED_JOB_TTL_S,
            "failure_ttl": self._settings.failure_ttl,
            "retry": Retry(max=self._settings.retries) if self._settings.retries else None,
            "description": f"forecast {forecast_id}",
            "meta": {VERSION: JOB_VERSION},
        }

    @redis_errors_translated()
    def status(self, forecast_id: str) -> JobStatus:
        """How a job stands. Raises NotFoundError where it never was or has been forgotten."""
        try:
            job = Job.fetch(forecast_id, connection=self._redis, serializer=JSONSerializer)
        except (NoSuchJobError, ValueError):  # or what no job can be called
            raise NotFoundError(f"There is no forecast {forecast_id!r}, neither stored nor in the queue.") from None
        cancelled = _is_cancelled(self._redis, forecast_id)
        state = "cancelled" if cancelled else _STATES.get(job.get_status(refresh=False), "failed")
        waits = job.get_status(refresh=False) == RqStatus.DEFERRED
        return JobStatus(
            id=forecast_id,
            state=state,
            position=job.get_position() if state == "queued" else None,
            progress=self._waits_for(job) if waits and not cancelled else _progress(job, state),
            error=_why_none(job, state),
            enqueued_at=job.enqueued_at,
            tries=job.meta.get("tries", 0),
            lane=self.lane_holding(job),
        )

    def _waits_for(self, job: Job) -> Progress | None:
        request = _as_asked(job)
        if request is None or request.fetched_by is None:
            return None
        return Progress(phase=self.fetches.phase(request.fetched_by), done=0, total=1)

    @redis_errors_translated()
    def cancel(self, forecast_id: str) -> JobStatus:
        """Cancel a forecast and return how it stands. One that waits leaves the queue at once; the worker of one that
        runs stops at its next progress report, or draws on for those that it draws beside it, and stores nothing. A fetch
        goes on for whoever else waits for it.

        To cancel twice is to cancel once. Raises NotFoundError, or AlreadyEndedError where it has finished or failed.
        """
        key, queue = Job.key_for(forecast_id), self._queues[self.status(forecast_id).lane]
        deferred = queue.deferred_job_registry.key

        def settle(pipe: Pipeline) -> None:
            status = self.status(forecast_id)
            settled, waits = pipe.hget(key, SETTLED), pipe.lpos(queue.key, forecast_id) is not None
            for_klines = pipe.zscore(deferred, forecast_id) is not None
            if status.state == "cancelled":
                return
            if status.state in ("finished", "failed") or settled == MADE:
                ended = "has failed" if status.state == "failed" else "is finished"
                raise AlreadyEndedError(f"Forecast {forecast_id} {ended} and can no longer be cancelled.")
            job = Job(forecast_id, connection=self._redis, serializer=JSONSerializer)
            fetch_ids = job.dependency_ids
            pipe.multi()
            pipe.hset(key, SETTLED, CANCELLED)
            if for_klines:
                pipe.zrem(deferred, forecast_id)
                for fetch_id in fetch_ids:
                    pipe.srem(Job.dependents_key_for(fetch_id), forecast_id)
            if waits or for_klines:
                pipe.lrem(queue.key, 1, forecast_id)
                job.set_status(RqStatus.CANCELED, pipeline=pipe)
                job.cleanup(self._settings.failure_ttl, pipeline=pipe)

        self._redis.transaction(settle, key, queue.key, deferred)
        return self.status(forecast_id)

    @redis_errors_translated()
    def take_along(
        self,
        lane: Lane,
        wanted: Callable[[ForecastRequest], bool],
        at_most: int,
        begin: Callable[[Job, Pipeline], Execution],
    ) -> list[Execution]:
        """Take waiting forecasts that are wanted out of a lane, the oldest first, and begin them by `begin`.

        That is one transaction: whenever the worker is killed, a job either waits still or is known to be running, and
        no other worker takes it up. All others keep their order. What has been tried before is left alone, since it may
        be what its first worker died of.
        """

        queue_key = self._queues[lane].key

        def take(pipe: Pipeline) -> Any:
            waiting = cast("list[bytes]", pipe.lrange(queue_key, 0, LOOKED_THROUGH - 1))
            ids = [forecast_id.decode() for forecast_id in waiting]
            jobs = Job.fetch_many(ids, connection=self._redis, serializer=JSONSerializer)
            chosen = [job for job in jobs if job is not None and _is_wanted(job, wanted)][:at_most]
            pipe.multi()
            for job in chosen:
                pipe.lrem(queue_key, 1, job.id)
            return [begin(job, pipe) for job in chosen]

        return cast("list[Execution]", self._redis.transaction(take, queue_key, value_from_callable=True))

    @redis_errors_translated()
    def release_abandoned(self, is_gone: Callable[[str], bool]) -> list[str]:
        """Give back to the queue what workers began that are gone (`queue_workers`); returns those forecasts' ids."""
        return [job_id for queue in self._queues.values() for job_id in release_abandoned(queue, is_gone)]

    def watches(self, is_gone: Callable[[str], bool]) -> list[LostWork]:
        """What finds the forecasts that lost workers were at, for each lane."""
        return [LostWork(queue, is_gone) for queue in self._queues.values()]

    @property
    def lanes(self) -> tuple[Lane, ...]:
        """Those that anything is led to."""
        return self._settings.lanes

    def lane_of(self, model: str) -> Lane:
        """The lane that forecasts of a model wait in."""
        return self._settings.lane_of(model)

    def lane_holding(self, job: Job) -> Lane:
        """The lane that a job was put in, which tells of queue.heavy_models as it was then."""
        return "heavy" if job.origin == self._queues["heavy"].name else "light"

    def _queue_for(self, request: ForecastRequest) -> Queue:
        return self._queues[self.lane_of(request.model)]

    def worker_command(self, lane: Lane) -> str:
        """What starts a worker that serves a lane."""
        return self._settings.worker_command(lane)

    @property
    def _all(self) -> list[Queue]:
        """Those too that nothing is led to any more: what was, may wait there still."""
        return list(self._queues.values())

    def _forget_failed(self, forecast_id: str) -> None:
        with suppress(NoSuchJobError):
            job = Job.fetch(forecast_id, connection=self._redis, serializer=JSONSerializer)
            if _STATES.get(job.get_status(refresh=False), "failed") == "failed":
                job.delete()

    @redis_errors_translated()
    def failed(self, at_most: int) -> list[FailedJob]:
        """What has failed for good and whose reason is still kept, the newest first."""
        listed = [one for lane in LANES for one in failed_jobs(self._queues[lane], lane, at_most)]
        found = [one for one in listed if not _is_cancelled(self._redis, one.id)]
        return sorted(found, key=lambda one: one.failed_at, reverse=True)[:at_most]

    @redis_errors_translated()
    def waiting(self) -> int:
        """Forecasts that no worker has taken up yet, those included whose klines are still to be fetched."""
        question = self.waiting_question()
        return ask_together(self._redis, question)[question]

    @redis_errors_translated()
    def workers(self) -> int:
        """Workers whose registration in Redis is alive."""
        return len(self.worker_names())

    @redis_errors_translated()
    def workers_of(self, lane: Lane) -> int:
        """Those of them that serve a lane."""
        question = names_question(self._queues[lane].name)
        return len(ask_together(self._redis, question)[question])

    @redis_errors_translated()
    def worker_names(self) -> list[str]:
        """The names of those workers."""
        question = self.workers_question()
        return ask_together(self._redis, question)[question]

    def workers_question(self) -> Question[list[str]]:
        """The same, to be asked together with others."""
        return names_question(*(queue.name for queue in self._all))

    def workforce_question(self, lane: Lane, now_ms: int) -> Question[Workforce]:
        """Who is there to work in a lane, to be asked together with others; `now_ms` is UTC ms."""
        return workforce_question(self._queues[lane].name, now_ms)

    @redis_errors_translated()
    def worker_statuses(self, now_ms: int) -> list[WorkerStatus]:
        """Each worker whose registration is alive, by name; `now_ms` is UTC ms."""
        question = self.worker_statuses_question(now_ms)
        return ask_together(self._redis, question)[question]

    def worker_statuses_question(self, now_ms: int) -> Question[list[WorkerStatus]]:
        """The same, to be asked together with others."""
        return workers_question([queue.name for queue in self._all], now_ms)

    def counts_question(self, lane: Lane, now_ms: int) -> Question[JobCounts]:
        """How many jobs a lane has in each state, in the light one those of scoring among them; `now_ms` is UTC ms."""
        return counts_question(self._queues[lane], now_ms)

    @redis_errors_translated()
    def overview(self, now_ms: int) -> QueueStatus:
        """How many wait, for how long, and what runs; `now_ms` is UTC ms."""
        question = queues_question(self._all, now_ms)
        return ask_together(self._redis, question)[question]

    def waiting_question(self) -> Question[int]:
        """The same, to be asked together with others."""
        in_lanes = [self.waiting_in_question(lane).commands for lane in LANES]
        return Question(tuple(chain.from_iterable(in_lanes)), lambda replies: sum(map(int, replies)))

    def waiting_in_question(self, lane: Lane) -> Question[int]:
        """The same of one lane."""
        queue = self._queues[lane]
        return Question(
            (("LLEN", queue.key), ("ZCARD", queue.deferred_job_registry.key)), lambda replies: sum(map(int, replies))
        )

    def check_writable(self) -> None:
        """Raises StoreUnavailableError where Redis takes nothing down, though it may answer."""
        check_writable(self._redis)

    def ask(self, *questions: Question[Any]) -> Answers:
        """Questions of this room and of others that stand on the same Redis, in one round trip."""
        return ask_together(self._redis, *questions)


def request_of(job: Job) -> ForecastRequest | None:
    """What a job asks for; None where that is no forecast, or one in the words of another version, or one whose klines
    could not be fetched.
    """
    request = _as_asked(job)
    with suppress(KlinesNotFetchedError):
        return with_snapshot(job.connection, request) if request else None
    return None


def with_snapshot(redis: Redis, request: ForecastRequest) -> ForecastRequest:
    """The request with the snapshot that its fetch has brought, where it waited for one. Raises KlinesNotFetchedError."""
    if request.snapshot_id or request.fetched_by is None:
        return request
    return request.model_copy(update={"snapshot_id": snapshot_of(redis, request.fetched_by)})


def _as_asked(job: Job) -> ForecastRequest | None:
    with suppress(DeserializationError, ValidationError, IndexError):
        if job.func_name == FORECAST_JOB:
            return ForecastRequest.model_validate(job.args[1])
    return None


def can_be_read(job: Job) -> bool:
    """Whether a job is written in words that this version knows."""
    return int(job.meta.get(VERSION, JOB_VERSION)) <= JOB_VERSION


@redis_errors_translated()
def leave_to_others(job: Job, queue: Queue) -> int:
    """Put a job that was taken and cannot be read at the end of its queue, as if it had never been taken; returns how many
    wait there now.
    """
    return int(job.connection.eval(_LEAVE, 2, queue.key, queue.intermediate_queue_key, job.id))


def is_first_try(job: Job) -> bool:
    return not job.meta.get("tries", 0)


def _is_wanted(job: Job, wanted: Callable[[ForecastRequest], bool]) -> bool:
    request = request_of(job)
    return request is not None and can_be_read(job) and is_first_try(job) and wanted(request)


@redis_errors_translated()
def count_try(job: Job) -> None:
    """Note that one more try of a job has begun, of which there is no progress yet and which can be cancelled again."""
    if job.connection.hget(job.key, SETTLED) == MADE:
        job.connection.hdel(job.key, SETTLED)
    job.meta["tries"] = job.meta.get("tries", 0) + 1
    job.meta.pop("progress", None)
    job.save_meta()


@redis_errors_translated()
def report_progress(jobs: Sequence[Job], phase: str, done: int, total: int) -> None:
    """How far jobs are that are worked on together, for whoever asks for their status.

    Raises ForecastCancelledError where none of them is wanted any more.
    """
    progress = Progress(phase=phase, done=done, total=total).model_dump()
    with jobs[0].connection.pipeline(transaction=False) as pipe:
        for job in jobs:
            job.meta["progress"] = progress
            pipe.hset(job.key, "meta", job.serializer.dumps(job.meta))
        for job in jobs:
            pipe.hget(job.key, SETTLED)
        settled = pipe.execute()[len(jobs) :]
    if all(how == CANCELLED for how in settled):
        raise _cancelled(*(job.id for job in jobs))


@redis_errors_translated()
def count_no_failure(job: Job) -> None:
    """Take a job that has just ended without a forecast off RQ's list of what failed, where it was cancelled."""
    if _is_cancelled(job.connection, job.id):
        job.connection.zrem(job.failed_job_registry.key, job.id)


@redis_errors_translated()
def refuse_cancelled(job: Job) -> None:
    """Raises ForecastCancelledError where a job that begins is no longer wanted."""
    if _is_cancelled(job.connection, job.id):
        raise _cancelled(job.id)


@redis_errors_translated()
def may_be_stored(redis: Redis, forecast_id: str, is_mine: Callable[[str], bool]) -> bool:
    """Whether a forecast that has just been made is still wanted, and wanted of this worker (`is_mine`, by its id). If so, it
    can no longer be cancelled.
    """
    key = Job.key_for(forecast_id)
    if not redis.exists(key):
        return True  # there is no job that anybody could have cancelled or taken over
    if not is_mine(forecast_id):
        return False
    redis.hsetnx(key, SETTLED, MADE)
    return not _is_cancelled(redis, forecast_id)


@redis_errors_translated()
def record_failure(job: Job, reason: str, *, permanent: bool) -> None:
    """For a job that is about to raise: the reason in one sentence, and whether trying again makes no sense."""
    job.meta["error"] = reason
    job.save_meta()
    if permanent:
        job.retries_left = 0


def current_job() -> Job:
    """From within a job: the job."""
    job = get_current_job()
    if job is None:
        raise RuntimeError("this is only known within a job of the queue")
    return job


def _is_cancelled(redis: Redis, forecast_id: str) -> bool:
    return redis.hget(Job.key_for(forecast_id), SETTLED) == CANCELLED


def _cancelled(*ids: str) -> ForecastCancelledError:
    return ForecastCancelledError(f"Cancelled, so there is nothing to go on with: {', '.join(ids)}.")


def _progress(job: Job, state: JobState) -> Progress | None:
    told = job.meta.get("progress")
    return Progress.model_validate(told) if told and state == "running" else None


def _why_none(job: Job, state: JobState) -> str | None:
    """Why a job has no forecast, in one sentence; None where it has or may still get one."""
    if state == "cancelled":
        return "It was cancelled before it was finished; ask for a new one if it is wanted after all."
    if state == "failed":
        return why_failed(job)
    return None
