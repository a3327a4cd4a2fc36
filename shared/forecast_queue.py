"""The queue of forecasts: enqueue by dotted name, ask how a job stands, and report progress from within one.

With the worker, the only room that knows RQ. Requests cross as plain JSON; results do not cross at all: a job stores its
forecast and returns the id.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, cast

from pydantic import ValidationError
from redis import Redis
from redis.client import Pipeline
from rq import Queue, Retry, Worker, get_current_job
from rq.exceptions import DeserializationError, DuplicateJobError, NoSuchJobError
from rq.executions import Execution
from rq.job import Job
from rq.job import JobStatus as RqStatus
from rq.serializers import JSONSerializer
from rq.worker_registration import WORKERS_BY_QUEUE_KEY

from shared.errors import NotFoundError
from shared.forecasts import ForecastRequest, JobState, JobStatus, Progress
from shared.queue_overview import QueueStatus, WorkerStatus, queue_question, workers_question
from shared.redis_connection import redis_errors_translated
from shared.redis_questions import Answers, Question, ask_together
from shared.settings import QueueSettings

FORECAST_JOB = "services.inference.jobs.run_forecast"
FINISHED_JOB_TTL_S = 600  # the forecast itself is kept in the forecast store
LOOKED_THROUGH = 256  # jobs at the head of the queue, for those that can be taken along

# RQ keeps a killed worker in its list, but lets its registration expire.
_REGISTERED = """
local alive = {}
for _, key in ipairs(redis.call('SMEMBERS', KEYS[1])) do
  if redis.call('EXISTS', key) == 1 then alive[#alive + 1] = key end
end
return alive
"""

_STATES: dict[RqStatus, JobState] = {
    RqStatus.QUEUED: "queued",
    RqStatus.SCHEDULED: "queued",
    RqStatus.DEFERRED: "queued",
    RqStatus.STARTED: "running",
    RqStatus.FINISHED: "finished",
}  # all others (failed, stopped, canceled) end without a forecast


class ForecastQueue:
    """The forecasts that wait, run or have failed."""

    def __init__(self, redis: Redis, settings: QueueSettings) -> None:
        self._redis = redis
        self._settings = settings
        self._queue = Queue(settings.name, connection=redis, serializer=JSONSerializer)

    @redis_errors_translated()
    def enqueue(self, forecast_id: str, request: ForecastRequest) -> bool:
        """Put a forecast in the queue; False where one of that id already waits, runs or has just been made.

        One that has failed for good is asked for anew, since whoever asks again may have mended the reason.

        RQ refuses the duplicate atomically, so two ingests that see the same candle make one forecast.
        """
        self._forget_failed(forecast_id)
        try:
            self._queue.enqueue_call(FORECAST_JOB, unique=True, **self._job(forecast_id, request))
        except DuplicateJobError:
            return False
        return True

    @redis_errors_translated()
    def enqueue_many(self, requests: Mapping[str, ForecastRequest]) -> None:
        """Put forecasts in the queue, all in one transaction, so that one worker can see them together.

        Their ids must be new (`adhoc_forecast_id`): RQ does not look for duplicates here.
        """
        self._queue.enqueue_many([Queue.prepare_data(FORECAST_JOB, **self._job(*one)) for one in requests.items()])

    def _job(self, forecast_id: str, request: ForecastRequest) -> dict[str, Any]:
        return {
            "args": (forecast_id, request.model_dump(mode="json")),
            "job_id": forecast_id,
            "timeout": self._settings.job_timeout,
            "result_ttl": FINISHED_JOB_TTL_S,
            "failure_ttl": self._settings.failure_ttl,
            "retry": Retry(max=self._settings.retries) if self._settings.retries else None,
            "description": f"forecast {forecast_id}",
        }

    @redis_errors_translated()
    def status(self, forecast_id: str) -> JobStatus:
        """How a job stands. Raises NotFoundError where it never was or has been forgotten."""
        try:
            job = Job.fetch(forecast_id, connection=self._redis, serializer=JSONSerializer)
        except NoSuchJobError:
            raise NotFoundError(f"There is no forecast {forecast_id!r}, neither stored nor in the queue.") from None
        state = _STATES.get(job.get_status(refresh=False), "failed")
        progress = job.meta.get("progress")
        return JobStatus(
            id=forecast_id,
            state=state,
            position=job.get_position() if state == "queued" else None,
            progress=Progress.model_validate(progress) if progress and state == "running" else None,
            error=_reason(job) if state == "failed" else None,
            enqueued_at=job.enqueued_at,
            tries=job.meta.get("tries", 0),
        )

    @redis_errors_translated()
    def take_along(
        self,
        wanted: Callable[[ForecastRequest], bool],
        at_most: int,
        begin: Callable[[Job, Pipeline], Execution],
    ) -> list[Execution]:
        """Take waiting forecasts that are wanted out of the queue, the oldest first, and begin them by `begin`.

        That is one transaction: whenever the worker is killed, a job either waits still or is known to be running, and
        no other worker takes it up. All others keep their order. What has been tried before is left alone, since it may
        be what its first worker died of.
        """

        def take(pipe: Pipeline) -> Any:
            waiting = cast("list[bytes]", pipe.lrange(self._queue.key, 0, LOOKED_THROUGH - 1))
            ids = [forecast_id.decode() for forecast_id in waiting]
            jobs = Job.fetch_many(ids, connection=self._redis, serializer=JSONSerializer)
            chosen = [job for job in jobs if job is not None and _is_wanted(job, wanted)][:at_most]
            pipe.multi()
            for job in chosen:
                pipe.lrem(self._queue.key, 1, job.id)
            return [begin(job, pipe) for job in chosen]

        return cast("list[Execution]", self._redis.transaction(take, self._queue.key, value_from_callable=True))

    @redis_errors_translated()
    def release_abandoned(self, is_gone: Callable[[str], bool]) -> list[str]:
        """Give back to the queue what workers began that are gone; returns the ids of those forecasts.

        Gone is a worker whose registration has expired, or of which `is_gone` says so by its name. RQ would notice only
        when the job's time-out has passed, since its SimpleWorker sends no heartbeat from within a job.
        """
        registry, alive = self._queue.started_job_registry, set(self.worker_names())
        abandoned = [
            execution
            for execution in self._executions()
            if execution.worker_name not in alive or is_gone(execution.worker_name)
        ]
        if abandoned:
            self._redis.zadd(registry.key, {execution.composite_key: 1 for execution in abandoned})  # expired long ago
            registry.cleanup()
        return [execution.job_id for execution in abandoned]

    def _executions(self) -> Iterator[Execution]:
        """What RQ holds to be running."""
        for key in cast("list[bytes]", self._redis.zrange(self._queue.started_job_registry.key, 0, -1)):
            execution = Execution.from_composite_key(key.decode(), connection=self._redis)
            with suppress(ValueError):  # its details have expired: then no worker is named, and it is abandoned
                execution.refresh()
            yield execution

    def _forget_failed(self, forecast_id: str) -> None:
        with suppress(NoSuchJobError):
            job = Job.fetch(forecast_id, connection=self._redis, serializer=JSONSerializer)
            if _STATES.get(job.get_status(refresh=False), "failed") == "failed":
                job.delete()

    @redis_errors_translated()
    def waiting(self) -> int:
        """Forecasts that no worker has taken up yet."""
        return self._queue.count

    @redis_errors_translated()
    def workers(self) -> int:
        """Workers whose registration in Redis is alive."""
        return len(self.worker_names())

    @redis_errors_translated()
    def worker_names(self) -> list[str]:
        """The names of those workers."""
        question = self.workers_question()
        return ask_together(self._redis, question)[question]

    def workers_question(self) -> Question[list[str]]:
        """The same, to be asked together with others."""
        return Question(
            (("EVAL", _REGISTERED, 1, WORKERS_BY_QUEUE_KEY % self._queue.name),),
            lambda replies: sorted(_worker_name(key) for key in replies[0]),
        )

    @redis_errors_translated()
    def worker_statuses(self, now_ms: int) -> list[WorkerStatus]:
        """Each worker whose registration is alive, by name; `now_ms` is UTC ms."""
        question = workers_question(self._queue.name, now_ms)
        return ask_together(self._redis, question)[question]

    @redis_errors_translated()
    def overview(self, now_ms: int) -> QueueStatus:
        """How many wait, for how long, and what runs; `now_ms` is UTC ms."""
        question = queue_question(self._queue.key, self._queue.started_job_registry.key, now_ms)
        return ask_together(self._redis, question)[question]

    def waiting_question(self) -> Question[int]:
        """How many forecasts no worker has taken up yet, to be asked together with others."""
        return Question((("LLEN", self._queue.key),), lambda replies: int(replies[0]))

    def ask(self, *questions: Question[Any]) -> Answers:
        """Questions of this room and of others that stand on the same Redis, in one round trip."""
        return ask_together(self._redis, *questions)


def _worker_name(key: bytes) -> str:
    return key.decode().removeprefix(Worker.redis_worker_namespace_prefix)


def request_of(job: Job) -> ForecastRequest | None:
    """What a job asks for; None where that is no forecast, or one in the words of another version."""
    with suppress(DeserializationError, ValidationError, IndexError):
        if job.func_name == FORECAST_JOB:
            return ForecastRequest.model_validate(job.args[1])
    return None


def is_first_try(job: Job) -> bool:
    return not job.meta.get("tries", 0)


def _is_wanted(job: Job, wanted: Callable[[ForecastRequest], bool]) -> bool:
    request = request_of(job)
    return request is not None and is_first_try(job) and wanted(request)


@redis_errors_translated()
def count_try(job: Job) -> None:
    """Note that one more try of a job has begun, of which there is no progress yet."""
    job.meta["tries"] = job.meta.get("tries", 0) + 1
    job.meta.pop("progress", None)
    job.save_meta()


@redis_errors_translated()
def report_progress(jobs: Sequence[Job], phase: str, done: int, total: int) -> None:
    """How far jobs are that are worked on together, for whoever asks for their status."""
    progress = Progress(phase=phase, done=done, total=total).model_dump()
    with jobs[0].connection.pipeline(transaction=False) as pipe:
        for job in jobs:
            job.meta["progress"] = progress
            pipe.hset(job.key, "meta", job.serializer.dumps(job.meta))
        pipe.execute()


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


def _reason(job: Any) -> str:
    return str(job.meta.get("error") or "The worker stopped before the forecast was finished; ask for it again.")
