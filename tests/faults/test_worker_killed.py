"""A worker dies in the middle of a forecast: the next one on that machine takes it up."""

from __future__ import annotations

import signal
from pathlib import Path

from redis import Redis

from shared.forecast_queue import ForecastQueue
from shared.forecast_store import ForecastStore
from shared.kline_store import KlineStore
from tests.builders import forecast_request, kline_window, settings
from tests.processes import eventually, service
from tests.tiny_models import write_tiny_models


def test_a_forecast_whose_worker_was_killed_is_made_by_the_next_one(
    redis: Redis, redis_url: str, tmp_path: Path
) -> None:
    environment = {
        "KRONOS_REDIS__URL": redis_url,
        "KRONOS_MODEL__LOCAL_DIR": str(write_tiny_models(tmp_path)),
        "KRONOS_MODEL__ALLOW_HUB": "false",
        "KRONOS_WORKER__THREADS": "1",
    }
    queue, forecasts = ForecastQueue(redis, settings().queue), ForecastStore(redis, keep=10)
    snapshot_id = KlineStore(redis, keep=10).save(kline_window())
    with service("worker", environment, tmp_path) as first:
        first.wait_for_log("worker_ready")
        queue.enqueue("orphan", forecast_request(snapshot_id, num_samples=300, horizon=400))
        eventually(lambda: queue.status("orphan").progress, 30)
        first.end(signal.SIGKILL)
    assert queue.status("orphan").state == "running", "Redis knows nothing of it yet"
    with service("worker", environment, tmp_path) as second:
        second.wait_for_log("forecast_given_back")
        eventually(lambda: forecasts.exists("orphan"), 120, second.log)
    assert queue.status("orphan").tries == 2
