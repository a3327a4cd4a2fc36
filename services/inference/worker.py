"""The inference worker: load and warm up the model once, then take forecasts from the queue until told to end.

Runs jobs in its own process (RQ's SimpleWorker), since a fork per job would load the model again. With a job it takes
along waiting ones of the same shape and has them drawn side by side. It takes from the lanes that it serves, the first
first; backtests come last: it takes one moment of theirs when no forecast waits. SIGTERM lets what is being drawn end.
"""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from typing import Any, cast

from redis import Redis
from redis.client import Pipeline
from redis.exceptions import RedisError
from rq import Queue, SimpleWorker
from rq.exceptions import DequeueTimeout, StopRequested
from rq.executions import Execution
from rq.job import Job, JobStatus
from rq.serializers import JSONSerializer
from rq.timeouts import JobTimeoutException
from rq.worker import WorkerStatus
from rq.worker_registration import register

from services.inference import jobs
from services.inference.checkpoints import resolve_device
from services.inference.forecaster import Forecaster, panel_shape
from services.inference.heartbeat import Heartbeat
from services.inference.memory import keep_freed_memory
from services.inference.precisions import has_kernels
from services.inference.processors import cores_available
from services.inference.work_metrics import TALLY
from shared.backtest_queue import BacktestQueue
from shared.calibration_store import CalibrationStore
from shared.errors import ForecastCancelledError, KronosLiveError, SettingsError, StoreUnavailableError
from shared.forecast_queue import (
    ForecastQueue,
    can_be_read,
    count_no_failure,
    count_try,
    is_first_try,
    leave_to_others,
    report_progress,
    request_of,
)
from shared.forecast_store import ForecastStore
from shared.forecasts import ForecastRequest
from shared.kline_store import KlineStore
from shared.logs import configure_logs, get_logger
from shared.lost_work import SIGN_EVERY_S, hold
from shared.metrics_server import serve_metrics
from shared.patience import within
from shared.queue_overview import MODEL_FIELD, SIGN_OF_LIFE_EVERY_S
from shared.queue_workers import WorkerName, is_gone
from shared.redis_connection import connect, redis_errors_translated, wait_until_ready
from shared.settings import ModelSettings, Settings

log = get_logger(__name__)

# Where worker.forecasts_at_once leaves it open, by kind of device. On a processor our kernels are as quick with one forecast
# as with several, which torch's are not (docs/performance.md).
FORECASTS_AT_ONCE = {"cpu": 1, "cuda": 64, "mps": 1}
FORECASTS_AT_ONCE_BY_TORCH = {**FORECASTS_AT_ONCE, "cpu": 2}
PAUSE_AFTER_BREAKDOWN_S = 1.0
LEAVES_AGAIN_AFTER_S = 2.0
SIGN_OFF_WITHIN_S = 3.0  # Redis' answers are waited for without limit at work, but not at the end
LOOKS_ELSEWHERE_EVERY_S = 1  # while it waits for a forecast, for what else there is to do


class QueueInOrder(Queue):
    """Queues of which an earlier one goes first; the first is waited for, and the others are looked at each second.

    Where there are several, RQ takes a job out by BLPOP, and one whose worker is killed in that moment is nowhere; here each
    leaves its queue as from a single one, by a move that RQ can trace.
    """

    @classmethod
    def lpop(cls, queue_keys: Sequence[str], timeout: int | None, connection: Redis | None = None) -> Any:
        """RQ's own signature; `timeout` in seconds, none for a look that does not wait. Raises DequeueTimeout."""
        assert connection is not None  # noqa: S101 - RQ's own default, which it never uses
        give_up = time.monotonic() + (timeout or 0)
        while True:
            for key in queue_keys:
                if found := cls.lmove(connection, key, None):
                    return found
            left_s = give_up - time.monotonic()
            if timeout is None:
                return None
            if left_s <= 0:
                raise DequeueTimeout(timeout, queue_keys)
            with suppress(DequeueTimeout):
                return cls.lmove(connection, queue_keys[0], min(LOOKS_ELSEWHERE_EVERY_S, max(1, int(left_s))))


class WarmWorker(SimpleWorker):
    """An RQ worker that keeps its model, shares the machine's cores, takes jobs of one shape together, and waits out an
    absent Redis.
    """

    def __init__(
        self,
        *args: Any,
        forecaster: Forecaster,
        forecast_queue: ForecastQueue,
        backtests: BacktestQueue,
        threads: int,
        at_once: int,
        heartbeat_redis: Redis,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        gone = partial(is_gone, own_name=self.name)
        watches = [*forecast_queue.watches(gone), *backtests.watches(gone)]
        self._heartbeat = Heartbeat(partial(self.beat, heartbeat_redis), watches)
        self.told_to_end = False
        self._left_in_a_row = 0
        self._forecaster = forecaster
        self._forecast_queue = forecast_queue
        self._backtests = backtests
        self._threads = threads
        self._at_once = at_once

    @property
    def dequeue_timeout(self) -> int:
        """Seconds that it waits for a job before it gives a sign of life and waits again. RQ would be silent for minutes, and
        so long nobody would know that a worker was killed.
        """
        return int(SIGN_OF_LIFE_EVERY_S)

    def bootstrap(self, *args: Any, **kwargs: Any) -> None:
        """RQ's own, which listens to signals only after it has registered."""
        self._install_signal_handlers()  # type: ignore[no-untyped-call]
        super().bootstrap(*args, **kwargs)

    def register_birth(self) -> None:
        """RQ's own; from then on others know of this worker, so only then is it said to be ready."""
        super().register_birth()  # type: ignore[no-untyped-call]
        self._heartbeat.start()
        log.info("worker_ready", worker=self.name, queues=[queue.name for queue in self.queues])

    def teardown(self) -> None:
        """RQ's own, and no sign of life any more."""
        self._heartbeat.end()
        try:
            within(SIGN_OFF_WITHIN_S, super().teardown)
        except (RedisError, TimeoutError) as error:  # others will notice by our silence
            log.warning("worker_not_signed_off", reason=str(error) or "Redis does not answer")

    def serialize(self) -> dict[str, Any]:
        """What a worker's registration in Redis says; ours also says which model it has loaded."""
        loaded = self._forecaster.loaded()
        return {**super().serialize(), **({MODEL_FIELD: loaded.model_dump_json()} if loaded else {})}

    def execute_job(self, job: Job, queue: Any) -> None:
        """Run a job, and with it those that can be taken along: first all of them are drawn side by side, then each runs
        as ever and finds its forecast made, or makes it and fails for a reason of its own.
        """
        try:
            if not can_be_read(job):
                self._leave_to_others(job, queue)
                return
            self._left_in_a_row = 0
            self._forecaster.use_threads(self._threads or self._share_of_cores())
            first = self._begin(job, queue)
            if first is None:
                return
            taken = [first, *self._take_along(job)]
            for execution in taken:
                count_try(execution.job)
            if len(taken) > 1:
                self._make_side_by_side([execution.job for execution in taken])
            self._run_each(taken, queue)
            self.set_state(WorkerStatus.IDLE)
        except (RedisError, StoreUnavailableError) as error:
            # RQ could not note how a job ended. Once Redis is back what is left is given back to the queue; where the
            # forecast was stored, the next try finds it.
            log.warning("redis_lost_during_job", job=job.id, reason=str(error))
            wait_until_ready(self.connection)
            self._release_abandoned(and_of_mine=True)
            self.executions.clear()

    def _leave_to_others(self, job: Job, queue: Any) -> None:
        """Of a job in the words of a newer version, as there are during an upgrade; with a pause where no other waits."""
        log.warning(
            "forecast_left_to_newer_worker", forecast=job.id, reason="it is written for a newer version than this"
        )
        self._left_in_a_row += 1
        if leave_to_others(job, queue) <= self._left_in_a_row:
            self._left_in_a_row = 0
            time.sleep(LEAVES_AGAIN_AFTER_S)

    def beat(self, redis: Redis) -> None:
        """From the thread of the heartbeat, over a connection of its own: tell Redis that this worker and all that it is at are
        alive. Raises StoreUnavailableError.
        """
        executions = list(self.executions.values())
        with redis_errors_translated(), redis.pipeline() as pipe:
            super().heartbeat(pipeline=pipe)
            for execution in executions:
                ttl = self.get_heartbeat_ttl(execution.job)
                execution.heartbeat(execution.job.started_job_registry, ttl, pipeline=pipe)
            pipe.hexists(self.key, "birth")
            if not pipe.execute()[-1]:  # Redis has forgotten us, as one without persistence does when it starts anew
                register(self, pipe)
                pipe.hset(self.key, mapping=cast("dict[Any, Any]", self.serialize()))
                pipe.execute()

    def is_mine(self, job_id: str) -> bool:
        """Whether this worker is still at a job: one that was silent for long was held for lost, and its job given to another.
        Raises StoreUnavailableError.
        """
        mine = [execution for execution in self.executions.values() if execution.job_id == job_id]
        return any(self._is_registered(execution) for execution in mine)

    @redis_errors_translated()
    def _is_registered(self, execution: Execution) -> bool:
        registry = execution.job.started_job_registry
        return self.connection.zscore(registry.key, execution.composite_key) is not None

    def handle_job_success(self, job: Job, queue: Any, started_job_registry: Any, execution: Execution) -> None:
        """RQ's own, unless the job was meanwhile given to another worker: then that one ends it."""
        if self._still_to_be_ended(execution):
            super().handle_job_success(job, queue, started_job_registry, execution)

    def handle_job_failure(
        self,
        job: Job,
        queue: Any,
        started_job_registry: Any = None,
        exc_string: str = "",
        execution: Execution | None = None,
    ) -> None:
        """The same for a job that failed."""
        if execution is None or self._still_to_be_ended(execution):
            super().handle_job_failure(job, queue, started_job_registry, exc_string, execution)
            count_no_failure(job)

    def _still_to_be_ended(self, execution: Execution) -> bool:
        if self._is_registered(execution):
            return True
        self.executions.pop(execution.id, None)
        log.warning("forecast_left_to_another", forecast=execution.job_id, reason="this worker was silent for too long")
        return False

    def _begin(self, job: Job, queue: Queue) -> Execution | None:
        """None where the job was held for stranded meanwhile, and is another's. It is in RQ's books before it leaves the list of
        those that were taken, so that it can be found whenever we die.
        """
        execution = self.prepare_execution(job)
        if not hold(queue, job.id, execution.id):
            with self.connection.pipeline() as pipe:
                self.cleanup_execution(job, pipe, execution)
                pipe.execute()
            log.warning("forecast_left_to_another", forecast=job.id, reason="it was taken too long ago")
            return None
        self.prepare_job_execution(job)
        return execution

    def _take_along(self, job: Job) -> list[Execution]:
        """The executions of waiting jobs that can be drawn beside this one."""
        request = request_of(job)
        shape = panel_shape(request) if request and is_first_try(job) else None
        if shape is None or self._at_once < 2:
            return []

        def wanted(other: ForecastRequest) -> bool:
            return panel_shape(other) == shape

        lane = self._forecast_queue.lane_holding(job)
        along = self._forecast_queue.take_along(lane, wanted, self._at_once - 1, self._register)
        self.executions.update({execution.id: execution for execution in along})
        return along

    def _register(self, job: Job, pipeline: Pipeline) -> Execution:
        """What RQ does in several steps when it begins a job, in the caller's transaction."""
        ttl = self.get_heartbeat_ttl(job)
        execution = Execution.create(job, ttl, pipeline=pipeline, worker_name=self.name)
        job.prepare_for_execution(self.name, pipeline=pipeline)
        return execution

    def _make_side_by_side(self, together: Sequence[Job]) -> None:
        """Within the time that all of them would have had one after the other. What goes wrong is logged: each job then
        makes its forecast alone.
        """
        asked = {job.id: request for job in together if (request := request_of(job))}
        seconds = int(sum(job.timeout or 0 for job in together))
        try:
            with self.death_penalty_class(seconds, JobTimeoutException):
                jobs.make_side_by_side(asked, partial(report_progress, together))
        except ForecastCancelledError:
            log.info("panel_cancelled", forecasts=list(asked))
        except Exception as error:
            foreseen = isinstance(error, KronosLiveError | JobTimeoutException)
            log.warning("panel_failed", forecasts=list(asked), reason=str(error), exc_info=not foreseen)

    def _run_each(self, taken: Sequence[Execution], queue: Any) -> None:
        """Run the jobs in their order; once told to end, begin none whose forecast is still to be made, but give it back."""
        given_back = []
        for execution in taken:
            if self._stop_requested and not jobs.is_made(execution.job_id):
                given_back.append(execution)
            else:
                self.perform_job(execution.job, queue, execution)
        if given_back:
            self._give_back(given_back, queue)

    def _give_back(self, executions: Sequence[Execution], queue: Any) -> None:
        """Put jobs that have not run at the head of the queue again, in their order."""
        with self.connection.pipeline() as pipe:
            for execution in reversed(executions):
                self.cleanup_execution(execution.job, pipe, execution)
                execution.job.set_status(JobStatus.QUEUED, pipeline=pipe)
                queue.push_job_id(execution.job_id, pipeline=pipe, at_front=True)
            pipe.execute()
        for execution in executions:
            log.info("forecast_given_back", forecast=execution.job_id, reason="its worker was told to end")

    def handle_exception(self, job: Job, *exc_info: Any) -> None:
        """RQ logs how a job failed with its trace; that somebody cancelled it is no failure, and has been logged."""
        if not isinstance(exc_info[1], ForecastCancelledError):
            super().handle_exception(job, *exc_info)

    def dequeue_job_and_maintain_ttl(
        self, timeout: int | None, max_idle_time: int | None = None
    ) -> tuple[Job, Queue] | None:
        """RQ's own, which waits out a Redis that is away, but ends with one that answers and refuses: whose memory is full,
        that is a replica, or wants another password. What had left the queue by then is put back by whoever watches it.
        """
        while True:
            try:
                return super().dequeue_job_and_maintain_ttl(timeout, max_idle_time)
            except RedisError as error:
                log.warning("redis_refuses", reason=str(error))
                wait_until_ready(self.connection)

    def heartbeat(self, timeout: int | None = None, pipeline: Any = None) -> None:
        while True:
            try:
                super().heartbeat(timeout, pipeline)
                return
            except RedisError as error:
                log.warning("redis_refuses", reason=str(error))
                wait_until_ready(self.connection)

    def set_shutdown_requested_date(self) -> None:
        """Nobody reads what RQ notes here from within its handler of signals, where a Redis that is away would break the forecast
        that is to end first.
        """

    def subscribe(self) -> None:
        """To no commands over Redis, which RQ takes in a thread that outlives a worker that broke down."""

    def handle_warm_shutdown_request(self) -> None:
        """RQ's word for SIGTERM and SIGINT."""
        self.told_to_end = True
        super().handle_warm_shutdown_request()  # type: ignore[no-untyped-call]

    def run_maintenance_tasks(self) -> None:
        """At the start, and then every ten minutes."""
        try:
            self._release_abandoned()
            super().run_maintenance_tasks()  # type: ignore[no-untyped-call]
        except (RedisError, StoreUnavailableError) as error:
            log.warning("maintenance_put_off", reason=str(error))

    def _release_abandoned(self, *, and_of_mine: bool = False) -> None:
        mine = self.name if and_of_mine else None

        def ended(name: str) -> bool:
            return name == mine or is_gone(name, self.name)

        for job_id in [*self._forecast_queue.release_abandoned(ended), *self._backtests.release_abandoned(ended)]:
            log.warning("forecast_given_back", forecast=job_id, reason="its worker ended before it did")

    def _share_of_cores(self) -> int:
        """The machine's cores divided by the workers on it."""
        machine = WorkerName.read(self.name).machine
        neighbours = sum(WorkerName.read(name).machine == machine for name in self._forecast_queue.worker_names())
        return cores_available(neighbours)


def run(settings: Settings) -> None:
    """Work until SIGTERM or SIGINT. Raises KronosLiveError where the model cannot be loaded, or would be for nothing."""
    refuse_idle_model(settings)
    configure_logs(settings.logs, "inference")
    _end_at_once_when_told()
    serve_metrics(settings.metrics, "worker", TALLY.exposition)
    redis = connect(settings.redis)
    wait_until_ready(redis)
    keep_freed_memory()
    forecaster = Forecaster(settings)
    forecaster.use_threads(settings.worker.threads or cores_available())
    forecaster.warm_up()
    while True:
        worker = _worker(settings, redis, forecaster)
        _equip(settings, redis, forecaster, worker)
        try:
            # RQ tells of each job in five lines; our own say it in one.
            worker.work(logging_level="DEBUG" if settings.logs.level == "debug" else "WARNING")
        except (RedisError, StopRequested) as error:  # while it registered, where RQ does not look out for either
            if not worker.told_to_end:
                _end_at_once_when_told()
            if isinstance(error, RedisError):
                log.warning("worker_not_registered", worker=worker.name, reason=str(error))
            worker.teardown()
        if not worker.told_to_end:
            _end_at_once_when_told()
        log.info("worker_ended", worker=worker.name)
        if worker.told_to_end:
            sys.exit(0)
        log.warning("worker_begins_anew", reason="its work with Redis broke down; the model stays loaded")
        time.sleep(PAUSE_AFTER_BREAKDOWN_S)
        wait_until_ready(redis)


def _end_at_once_when_told() -> None:
    """By SIGTERM or SIGINT, until a worker has handlers of its own: nothing is begun that would have to end first."""

    def end(*_: object) -> None:
        log.info("worker_ended", reason="told to end before it was at work")
        sys.exit(0)

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, end)


def refuse_idle_model(settings: Settings) -> None:
    """Others are loaded when they are asked for, but the configured one is kept warm: no forecast of it would ever come here."""
    model = settings.model.model_name
    lane = settings.queue.lane_of(model)
    if lane not in settings.worker.serves:
        other = "is one of" if lane == "heavy" else "is none of"
        raise SettingsError(
            f"worker.serves is {','.join(settings.worker.serves)}, but model.model_name, {model}, {other} queue.heavy_models, so "
            f"this worker would load it for nothing: let it serve {lane}, or name a model that it serves"
        )


def _equip(settings: Settings, redis: Redis, forecaster: Forecaster, worker: WarmWorker) -> None:
    jobs.equip(
        jobs.Workbench(
            forecaster,
            redis,
            KlineStore(redis, settings.retention.snapshots_per_series),
            ForecastStore(redis, settings.retention.forecasts_per_series),
            CalibrationStore(redis),
            BacktestQueue(redis, settings.queue),
            settings.calibration.enabled,
            settings.queue.job_timeout,
            worker.is_mine,
        )
    )


def _worker(settings: Settings, redis: Redis, forecaster: Forecaster) -> WarmWorker:
    queue, serves = settings.queue, settings.worker.serves
    return WarmWorker(
        [*(map(queue.forecasts_in, serves)), *(map(queue.backtests_in, serves))],
        queue_class=QueueInOrder,
        name=str(WorkerName.of_this_process()),
        connection=redis,
        serializer=JSONSerializer,
        forecaster=forecaster,
        forecast_queue=ForecastQueue(redis, settings.queue),
        backtests=BacktestQueue(redis, settings.queue),
        threads=settings.worker.threads,
        at_once=settings.worker.forecasts_at_once or _most_that_gains(settings.model),
        heartbeat_redis=connect(settings.redis, answer_timeout_s=SIGN_EVERY_S),
    )


def _most_that_gains(model: ModelSettings) -> int:
    device = resolve_device(model.device)
    return (FORECASTS_AT_ONCE if has_kernels(model.kernels, device) else FORECASTS_AT_ONCE_BY_TORCH)[device.type]
