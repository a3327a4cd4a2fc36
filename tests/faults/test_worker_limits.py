"""A forecast that takes too long ends while it is drawn, with a sentence, and its worker goes on."""

from __future__ import annotations

from pathlib import Path

import pytest
from redis import Redis

from shared.forecast_queue import ForecastQueue
from shared.forecast_store import ForecastStore
from shared.kline_store import KlineStore
from tests.builders import forecast_request, kline_window, settings
from tests.faults.recovery import Recovery
from tests.ingest_parts import replaced
from tests.processes import eventually, service

pytestmark = pytest.mark.slow


def test_the_time_out_of_a_job_holds_inside_the_sampler(
    redis: Redis, environment: dict[str, str], tmp_path: Path, recovery: Recovery
) -> None:
    limited = replaced(settings(), queue={"job_timeout": 10}).queue
    queue, forecasts = ForecastQueue(redis, limited), ForecastStore(redis, keep=10)
    snapshot_id = KlineStore(redis, keep=10).save(kline_window())
    with service("worker", {**environment, "KRONOS_QUEUE__JOB_TIMEOUT": "10"}, tmp_path) as worker:
        worker.wait_for_log("worker_ready")
        recovery.begins()
        queue.enqueue("endless", forecast_request(snapshot_id, num_samples=10_000, horizon=440))
        queue.enqueue("next", forecast_request(snapshot_id, num_samples=2))
        eventually(lambda: queue.status("endless").state == "failed", 60, worker.log)
        assert "took longer than 10 s (queue.job_timeout)" in str(queue.status("endless").error)
        assert queue.status("endless").tries == 1
        eventually(lambda: forecasts.exists("next"), 60, worker.log)
        recovery.has_ended()
        assert not forecasts.exists("endless")
