"""A worker is stopped for so long that it is held for lost: another makes its forecast, and it leaves it to that one."""

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
from tests.faults.work import who_is_at
from tests.processes import eventually, service

pytestmark = pytest.mark.slow


def test_a_forecast_of_a_worker_that_is_held_up_is_made_by_another_and_ends_once(
    redis: Redis, environment: dict[str, str], tmp_path: Path, recovery: Recovery
) -> None:
    queue, forecasts = ForecastQueue(redis, settings().queue), ForecastStore(redis, keep=10)
    snapshot_id = KlineStore(redis, keep=10).save(kline_window())
    with service("worker", environment, tmp_path) as one, service("worker", environment, tmp_path) as other:
        for worker in (one, other):
            worker.wait_for_log("worker_ready", 120)
        queue.enqueue("held-up", forecast_request(snapshot_id, num_samples=150, horizon=400))
        eventually(lambda: queue.status("held-up").progress, 60, one.log)
        first = who_is_at("held-up", (one, other), queue)
        second = other if first is one else one
        first.process.send_signal(signal.SIGSTOP)
        recovery.begins()
        second.wait_for_log("forecast_given_back", 120)
        eventually(lambda: forecasts.exists("held-up"), 120, second.log)
        recovery.has_ended()
        eventually(lambda: queue.status("held-up").state == "finished", 20, second.log)
        made_by_second = forecasts.load("held-up")
        first.process.send_signal(signal.SIGCONT)
        first.wait_for_log("forecast_left_to_another", 120)
        assert forecasts.load("held-up") == made_by_second
        assert (first.times_stored("held-up"), second.times_stored("held-up")) == (0, 1)
        assert queue.status("held-up").state == "finished"
        assert first.end() == 0
