"""A worker that is told to end, as at an upgrade, makes what it is at, leaves what waits to the next, and goes."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from redis import Redis

from shared.forecast_queue import ForecastQueue
from shared.forecast_store import ForecastStore
from shared.kline_store import KlineStore
from tests.builders import forecast_request, kline_window, settings
from tests.faults.recovery import Recovery
from tests.processes import eventually, service

pytestmark = pytest.mark.slow


def test_sigterm_drains_a_worker_and_the_next_one_makes_what_waits(
    redis: Redis, environment: dict[str, str], tmp_path: Path, recovery: Recovery
) -> None:
    queue, forecasts = ForecastQueue(redis, settings().queue), ForecastStore(redis, keep=10)
    snapshot_id = KlineStore(redis, keep=10).save(kline_window())
    with service("worker", environment, tmp_path) as first:
        first.wait_for_log("worker_ready")
        queue.enqueue("at-work", forecast_request(snapshot_id, num_samples=150, horizon=400))
        eventually(lambda: queue.status("at-work").progress, 60, first.log)
        queue.enqueue("waits", forecast_request(snapshot_id, num_samples=2))
        assert first.end(signal.SIGTERM, 120) == 0
    recovery.begins()
    assert [queue.status(one).state for one in ("at-work", "waits")] == ["finished", "queued"]
    with service("worker", environment, tmp_path) as second:
        eventually(lambda: forecasts.exists("waits"), 120, second.log)
        recovery.has_ended()
        eventually(lambda: queue.status("waits").state == "finished", 30, second.log)
        assert [queue.status(one).tries for one in ("at-work", "waits")] == [1, 1]
        assert (first.times_stored("at-work"), second.times_stored("at-work")) == (1, 0)
        assert (first.times_stored("waits"), second.times_stored("waits")) == (0, 1)
