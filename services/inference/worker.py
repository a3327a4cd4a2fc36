"""The inference worker: load and warm up the model once, then take forecasts from the queue until told to end.

Runs jobs in its own process (RQ's SimpleWorker), since a fork per job would load the model again. SIGTERM lets the
running forecast end.
"""

from __future__ import annotations

import os
import socket
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

from redis import Redis
from redis.exceptions import RedisError
from rq import SimpleWorker
from rq.serializers import JSONSerializer

from services.inference import jobs
from services.inference.forecaster import Forecaster
from services.inference.processors import cores_available
from shared.errors import StoreUnavailableError
from shared.forecast_queue import ForecastQueue
from shared.forecast_store import ForecastStore
from shared.kline_store import KlineStore
from shared.logs import configure_logs, get_logger
from shared.redis_connection import connect, wait_until_ready
from shared.settings import Settings

log = get_logger(__name__)

MACHINE_ID_FILES = (Path("/proc/sys/kernel/random/boot_id"), Path("/etc/machine-id"))


class WarmWorker(SimpleWorker):
    """An RQ worker that keeps its model, shares the machine's cores, and waits out an absent Redis."""

    def __init__(
        self, *args: Any, forecaster: Forecaster, forecast_queue: ForecastQueue, threads: int, **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self._forecaster = forecaster
        self._forecast_queue = forecast_queue
        self._threads = threads

    def execute_job(self, job: Any, queue: Any) -> None:
        try:
            self._forecaster.use_threads(self._threads or self._share_of_cores())
            super().execute_job(job, queue)
        except (RedisError, StoreUnavailableError) as error:
            # RQ could not note how the job ended. Once Redis is back the job is given back to the queue; if its forecast
            # was stored, the next try finds it.
            log.warning("redis_lost_during_job", job=job.id, reason=str(error))
            wait_until_ready(self.connection)
            self._release_abandoned(and_of_mine=True)

    def heartbeat(self, timeout: int | None = None, pipeline: Any = None) -> None:
        try:
            super().heartbeat(timeout, pipeline)
        except RedisError:
            wait_until_ready(self.connection)
            super().heartbeat(timeout, pipeline)

    def run_maintenance_tasks(self) -> None:
        """At the start, and then every ten minutes."""
        self._release_abandoned()
        super().run_maintenance_tasks()  # type: ignore[no-untyped-call]

    def _release_abandoned(self, *, and_of_mine: bool = False) -> None:
        mine = self.name if and_of_mine else None
        for forecast_id in self._forecast_queue.release_abandoned(
            lambda name: name == mine or is_gone(name, self.name)
        ):
            log.warning("forecast_given_back", forecast=forecast_id, reason="its worker ended before it did")

    def _share_of_cores(self) -> int:
        """The machine's cores divided by the workers on it."""
        machine = WorkerName.read(self.name).machine
        neighbours = sum(WorkerName.read(name).machine == machine for name in self._forecast_queue.worker_names())
        return cores_available(neighbours)


@dataclass(frozen=True)
class WorkerName:
    """What the name of a worker tells: the machine (the same for all its containers), host, process, and a random part,
    since a restarted container has the same host and process id as before.
    """

    machine: str
    host: str
    process: str
    random: str

    @classmethod
    def of_this_process(cls) -> WorkerName:
        return cls(_machine_id(), socket.gethostname().replace(".", "-"), str(os.getpid()), uuid4().hex[:6])

    @classmethod
    def read(cls, name: str) -> WorkerName:
        """A name that is not of this form belongs to no machine that we know."""
        parts = name.split(".")
        return cls(*parts) if len(parts) == 4 else cls("", "", "", name)

    def __str__(self) -> str:
        return ".".join((self.machine, self.host, self.process, self.random))


def is_gone(name: str, own_name: str) -> bool:
    """Whether a worker of this very host (a container is a host of its own) has ended without saying so."""
    other, own = WorkerName.read(name), WorkerName.read(own_name)
    if name == own_name or (other.machine, other.host) != (own.machine, own.host):
        return False
    return other.process == own.process or not Path("/proc", other.process).exists()


def run(settings: Settings) -> None:
    """Work until SIGTERM or SIGINT. Raises KronosLiveError where the model cannot be loaded."""
    configure_logs(settings.logs, "inference")
    redis = connect(settings.redis)
    wait_until_ready(redis)
    forecaster = Forecaster(settings)
    forecaster.use_threads(settings.worker.threads or cores_available())
    forecaster.warm_up()
    jobs.equip(
        jobs.Workbench(
            forecaster,
            redis,
            KlineStore(redis, settings.retention.snapshots_per_series),
            ForecastStore(redis, settings.retention.forecasts_per_series),
            settings.queue.job_timeout,
        )
    )
    worker = _worker(settings, redis, forecaster)
    log.info("worker_ready", worker=worker.name, queue=settings.queue.name)
    # RQ tells of each job in five lines; our own say it in one.
    worker.work(logging_level="DEBUG" if settings.logs.level == "debug" else "WARNING")
    log.info("worker_ended", worker=worker.name)
    sys.exit(0)


def _worker(settings: Settings, redis: Redis, forecaster: Forecaster) -> WarmWorker:
    return WarmWorker(
        [settings.queue.name],
        name=str(WorkerName.of_this_process()),
        connection=redis,
        serializer=JSONSerializer,
        forecaster=forecaster,
        forecast_queue=ForecastQueue(redis, settings.queue),
        threads=settings.worker.threads,
    )


def _machine_id() -> str:
    """The same for all containers of one machine, so that their workers know of each other."""
    for path in MACHINE_ID_FILES:
        if path.is_file():
            return path.read_text().strip().replace("-", "")[:12]
    return socket.gethostname().replace(".", "-")
