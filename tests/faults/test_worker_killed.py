"""A worker dies in the middle of its work: the next one on that machine takes it up."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from redis import Redis

from shared.forecast_queue import ForecastQueue
from shared.forecast_store import ForecastStore
from shared.kline_store import KlineStore
from tests.builders import enqueue_together, forecast_request, kline_window, settings
from tests.faults.recovery import Recovery
from tests.processes import eventually, service

pytestmark = pytest.mark.slow


def test_a_forecast_whose_worker_was_killed_is_made_by_the_next_one(
    redis: Redis, environment: dict[str, str], tmp_path: Path, recovery: Recovery
) -> None:
    queue, forecasts = ForecastQueue(redis, settings().queue), ForecastStore(redis, keep=10)
    snapshot_id = KlineStore(redis, keep=10).save(kline_window())
    with service("worker", environment, tmp_path) as first:
        first.wait_for_log("worker_ready")
        queue.enqueue("orphan", forecast_request(snapshot_id, num_samples=150, horizon=400))
        eventually(lambda: queue.status("orphan").progress, 30)
        first.end(signal.SIGKILL)
    recovery.begins()
    assert queue.status("orphan").state == "running", "Redis knows nothing of it yet"
    with service("worker", environment, tmp_path) as second:
        second.wait_for_log("forecast_given_back")
        eventually(lambda: forecasts.exists("orphan"), 120, second.log)
        recovery.has_ended()
    assert queue.status("orphan").tries == 2


def test_of_a_panel_whose_worker_was_killed_each_is_made_by_the_next_one_and_alone(
    redis: Redis, environment: dict[str, str], tmp_path: Path, recovery: Recovery
) -> None:
    queue, forecasts = ForecastQueue(redis, settings().queue), ForecastStore(redis, keep=10)
    snapshot_id = KlineStore(redis, keep=10).save(kline_window())
    orphans, later = ["one", "two", "three"], "later"
    with service("worker", environment, tmp_path) as first:
        first.wait_for_log("worker_ready")
        request = forecast_request(snapshot_id, num_samples=100, horizon=300)
        enqueue_together(queue, request, *orphans, later)
        eventually(lambda: all(queue.status(one).progress for one in orphans), 30, first.log)
        first.end(signal.SIGKILL)
    recovery.begins()
    assert [queue.status(one).state for one in (*orphans, later)] == ["running"] * 3 + ["queued"]
    with service("worker", environment, tmp_path) as second:
        eventually(lambda: all(forecasts.exists(one) for one in (*orphans, later)), 120, second.log)
        recovery.has_ended()
        assert second.log().count("forecast_given_back") == 3
    assert [queue.status(one).tries for one in (*orphans, later)] == [2, 2, 2, 1]
    assert {forecasts.load(one).provenance.side_by_side for one in orphans} == {1}, "one of them may have killed it"
