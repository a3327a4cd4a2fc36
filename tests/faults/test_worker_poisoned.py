"""A forecast that kills whichever worker takes it up stops after its retries, is told as failed, and holds up no other."""

from __future__ import annotations

import signal
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

import pytest
from redis import Redis

from shared.forecast_queue import ForecastQueue
from shared.forecast_store import ForecastStore
from shared.kline_store import KlineStore
from tests.builders import forecast_request, kline_window, settings
from tests.faults.recovery import Recovery
from tests.faults.work import who_is_at
from tests.processes import Service, eventually, service

pytestmark = pytest.mark.slow


def test_a_forecast_that_kills_its_workers_stops_after_its_retries_and_is_told_as_failed(
    redis: Redis, environment: dict[str, str], tmp_path: Path, recovery: Recovery
) -> None:
    tries = settings().queue.retries + 1
    queue, forecasts = ForecastQueue(redis, settings().queue), ForecastStore(redis, keep=10)
    snapshot_id = KlineStore(redis, keep=10).save(kline_window())
    stack_began = datetime.now(UTC)
    with ExitStack() as stack:
        workers = [stack.enter_context(service("worker", environment, tmp_path)) for _ in range(tries + 1)]
        for one in workers:
            one.wait_for_log("worker_ready", 120)
        queue.enqueue("poison", forecast_request(snapshot_id, num_samples=2000, horizon=400))
        for _ in range(tries):
            recovery.begins()
            kill_who_is_at("poison", workers, queue)
        last = next(one for one in workers if one.process.poll() is None)
        eventually(lambda: queue.status("poison").state == "failed", 60, last.log)
        queue.enqueue("next", forecast_request(snapshot_id, num_samples=2))
        eventually(lambda: forecasts.exists("next"), 60, last.log)
        recovery.has_ended()
        status = queue.status("poison")
        assert f"Its worker was lost {tries} times" in str(status.error)
        assert status.tries == tries
        [told] = queue.failed(10)
        assert (told.id, told.reason, told.tries) == ("poison", status.error, tries)
        assert told.failed_at > stack_began
        assert not forecasts.exists("poison")
        assert last.end() == 0


def kill_who_is_at(forecast_id: str, workers: list[Service], queue: ForecastQueue) -> None:
    """As the system does it where memory runs out."""
    tried = queue.status(forecast_id).tries

    def drawn_again() -> bool:
        status = queue.status(forecast_id)
        return status.progress is not None and status.tries > tried

    eventually(drawn_again, 60, workers[0].log)
    who_is_at(forecast_id, workers, queue).end(signal.SIGKILL)
