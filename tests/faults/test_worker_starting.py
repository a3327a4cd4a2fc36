"""Redis refuses in the moment in which a worker registers: found by a soak, in which a full Redis met a worker that started."""

from __future__ import annotations

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


def test_a_worker_that_redis_did_not_register_begins_anew_with_the_model_that_it_has(
    redis: Redis, environment: dict[str, str], tmp_path: Path, recovery: Recovery
) -> None:
    queue, forecasts = ForecastQueue(redis, settings().queue), ForecastStore(redis, keep=10)
    snapshot_id = KlineStore(redis, keep=10).save(kline_window())
    queue.enqueue("waits", forecast_request(snapshot_id, num_samples=2))
    # Which registering needs, and the look whether Redis is of use does not.
    redis.execute_command("ACL", "SETUSER", "default", "-del")
    try:
        with service("worker", environment, tmp_path) as worker:
            worker.wait_for_log("worker_not_registered")
            assert not forecasts.exists("waits")
            redis.execute_command("ACL", "SETUSER", "default", "+@all")
            recovery.begins()
            eventually(lambda: forecasts.exists("waits"), 60, worker.log)
            recovery.has_ended()
            assert worker.times_stored("waits") == 1
            assert worker.log().count("worker_ready") == 1
            eventually(lambda: queue.workers() == 1, 30, worker.log)
    finally:
        redis.execute_command("ACL", "SETUSER", "default", "+@all")
