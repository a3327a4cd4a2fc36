"""The inference worker: load and warm up the model once, then take forecasts from the queue until told to end.

Runs jobs in its own process (RQ's SimpleWorker), since a fork per job would load the model again. SIGTERM lets the
running forecast end.
"""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path
from typing import Any

from redis import Redis
from rq import SimpleWorker
from rq.serializers import JSONSerializer

from services.inference import jobs
from services.inference.forecaster import Forecaster
from services.inference.processors import cores_available
from shared.forecast_queue import ForecastQueue
from shared.forecast_store import ForecastStore
from shared.kline_store import KlineStore
from shared.logs import configure_logs, get_logger
from shared.redis_connection import connect, wait_until_ready
from shared.settings import Settings

log = get_logger(__name__)

MACHINE_ID_FILES = (Path("/proc/sys/kernel/random/boot_id"), Path("/etc/machine-id"))


class WarmWorker(SimpleWorker):
    """An RQ worker that keeps its model, and takes its share of the machine's cores before each job."""

    def __init__(
        self, *args: Any, forecaster: Forecaster, forecast_queue: ForecastQueue, threads: int, **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self._forecaster = forecaster
        self._forecast_queue = forecast_queue
        self._threads = threads

    def execute_job(self, job: Any, queue: Any) -> None:
        self._forecaster.use_threads(self._threads or self._share_of_cores())
        super().execute_job(job, queue)

    def _share_of_cores(self) -> int:
        """The machine's cores divided by the workers on it, which the heads of their names tell."""
        machine = self.name.split(".")[0]
        neighbours = sum(name.split(".")[0] == machine for name in self._forecast_queue.worker_names())
        return max(1, cores_available() // max(1, neighbours))


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
        name=f"{_machine_id()}.{socket.gethostname()}.{os.getpid()}",
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
