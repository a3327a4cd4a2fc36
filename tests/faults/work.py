"""Which worker is at which work, by the books of the queue."""

from __future__ import annotations

from collections.abc import Sequence

from shared.forecast_queue import ForecastQueue
from shared.queue_workers import WorkerName
from tests.processes import Service


def who_is_at(forecast_id: str, workers: Sequence[Service], queue: ForecastQueue) -> Service:
    """The one of these workers that the queue holds to be at a forecast."""
    (running,) = [one for one in queue.overview(0).running if one.id == forecast_id]
    process = WorkerName.read(str(running.worker)).process
    (found,) = [one for one in workers if str(one.process.pid) == process]
    return found
