"""Works the queue of fetches beside the schedule: RQ's worker in a thread of ingest's own process.

RQ installs signal handlers and times jobs by signals, which only the main thread may; here signals stay with the process,
which ends at once when it is told to and gives back what it was at. Knows no market and no klines.
"""

from __future__ import annotations

import time
from typing import Any, NoReturn

from redis import Redis
from redis.exceptions import RedisError
from rq import SimpleWorker
from rq.job import Job, JobStatus
from rq.serializers import JSONSerializer
from rq.timeouts import TimerDeathPenalty

from shared.errors import KronosLiveError, StoreUnavailableError
from shared.fetches import Fetches
from shared.logs import get_logger
from shared.patience import within
from shared.queue_workers import WorkerName, is_gone
from shared.redis_connection import wait_until_ready
from shared.settings import QueueSettings

# RQ looks for the next job for 15 s less than this at a time, and holds a worker for dead a minute after it.
WORKER_TTL_S = 30
MAINTENANCE_EVERY_S = 30  # so that a person does not wait long for what a killed ingest was at
PAUSE_AFTER_BREAKDOWN_S = 1.0
GIVE_BACK_WITHIN_S = 2.0  # ingest ends at once when it is told to, also where Redis hangs

log = get_logger(__name__)


class FetchWorker(SimpleWorker):
    """An RQ worker that leaves signals alone and gives back what it or a gone ingest of this host had begun."""

    death_penalty_class = TimerDeathPenalty

    def __init__(self, *args: Any, fetches: Fetches, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._fetches = fetches

    def _install_signal_handlers(self) -> None:
        """They belong to the main thread."""

    def subscribe(self) -> None:
        """To no commands over Redis, which RQ takes in a thread that outlives a worker that broke down."""

    def register_birth(self) -> None:
        """RQ's own; from then on others know that somebody fetches, so only then is it said."""
        super().register_birth()  # type: ignore[no-untyped-call]
        log.info("fetches_taken", worker=self.name, queue=self.queues[0].name)

    def handle_exception(self, job: Job, *exc_info: Any) -> None:
        """RQ logs how a job failed with its trace; what is foreseen has been logged in one line."""
        if not isinstance(exc_info[1], KronosLiveError):
            super().handle_exception(job, *exc_info)

    def run_maintenance_tasks(self) -> None:
        """At the start, and then every half minute."""
        for fetch_id in self._fetches.release_abandoned(lambda name: is_gone(name, self.name)):
            log.warning("fetch_given_back", fetch=fetch_id, reason="its ingest ended before it did")
        super().run_maintenance_tasks()  # type: ignore[no-untyped-call]

    def give_back(self) -> None:
        """As the process ends: put what is being fetched at the head of the queue again, and sign off.

        The thread at work may end its fetch in the same moment. Then that is done a second time, which harms nobody.
        """
        for execution in list(self.executions.values()):
            job, queue = execution.job, self.queues[0]
            with self.connection.pipeline() as pipe:
                self.cleanup_execution(job, pipe, execution)
                job.set_status(JobStatus.QUEUED, pipeline=pipe)
                queue.push_job_id(job.id, pipeline=pipe, at_front=True)
                pipe.execute()
            log.info("fetch_given_back", fetch=job.id, reason="ingest was told to end")
        self.register_death()  # type: ignore[no-untyped-call]


class FetchDesk:
    """Takes fetches from the queue for as long as the process lives. `redis` must be nobody else's: RQ changes its time-outs."""

    def __init__(self, redis: Redis, settings: QueueSettings) -> None:
        self._redis = redis
        self._settings = settings
        self._worker: FetchWorker | None = None

    def run_forever(self) -> NoReturn:
        """Never returns: an RQ worker that breaks down, as without Redis, is followed by another."""
        while True:
            wait_until_ready(self._redis)
            try:
                self._worker = FetchWorker(
                    [self._settings.ingest_name],
                    name=str(WorkerName.of_this_process()),
                    connection=self._redis,
                    serializer=JSONSerializer,
                    worker_ttl=WORKER_TTL_S,
                    maintenance_interval=MAINTENANCE_EVERY_S,
                    fetches=Fetches(self._redis, self._settings),
                )
                self._worker.work(logging_level="WARNING")
            except (RedisError, StoreUnavailableError) as error:
                log.warning("fetch_worker_broke_down", reason=str(error))
            time.sleep(PAUSE_AFTER_BREAKDOWN_S)

    def give_back(self) -> None:
        """As the process ends, by whichever thread: what is being fetched goes back to the queue."""
        if self._worker is None:
            return
        try:
            within(GIVE_BACK_WITHIN_S, self._worker.give_back)
        except (RedisError, TimeoutError) as error:  # the next ingest finds it by our name
            log.warning("fetch_not_given_back", reason=str(error))
