"""A worker hears so late of the job that it took that another was given it: it leaves the job to that one."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest
from redis import Redis
from rq import Queue
from rq.serializers import JSONSerializer

from services.inference.worker import LOOKS_ELSEWHERE_EVERY_S
from shared.forecast_queue import ForecastQueue
from shared.forecast_store import ForecastStore
from shared.kline_store import KlineStore
from tests.builders import forecast_request, kline_window, settings
from tests.faults.recovery import Recovery
from tests.faults.redis_faults import TOO_SLOW_S
from tests.faults.redis_proxy import RedisProxy
from tests.processes import eventually, service

pytestmark = pytest.mark.slow


def test_a_worker_that_hears_too_late_of_its_job_leaves_it_to_the_one_that_was_given_it(
    redis: Redis, redis_port: int, environment: dict[str, str], tmp_path: Path, recovery: Recovery
) -> None:
    queue, forecasts = ForecastQueue(redis, settings().queue), ForecastStore(redis, keep=10)
    jobs = Queue(settings().queue.name, connection=redis, serializer=JSONSerializer)
    snapshot_id = KlineStore(redis, keep=10).save(kline_window())
    proxy = RedisProxy(redis_port)
    far_away = {**environment, "KRONOS_REDIS__URL": f"redis://127.0.0.1:{proxy.port}/0"}
    with service("worker", far_away, tmp_path) as late, service("worker", environment, tmp_path) as other:
        for worker in (late, other):
            worker.wait_for_log("worker_ready", 120)
        other.process.send_signal(signal.SIGSTOP)
        time.sleep(2 * LOOKS_ELSEWHERE_EVERY_S)  # until Redis lets it wait no longer
        proxy.delay_s = TOO_SLOW_S
        queue.enqueue("taken", forecast_request(snapshot_id, num_samples=2))
        eventually(lambda: jobs.intermediate_queue.get_job_ids() == ["taken"], 120, late.log)
        recovery.begins()
        other.process.send_signal(signal.SIGCONT)
        eventually(lambda: forecasts.exists("taken"), 60, other.log)
        recovery.has_ended()
        proxy.delay_s = 0
        late.wait_for_log("forecast_left_to_another", 120)
        eventually(lambda: queue.status("taken").state == "finished", 30, other.log)
        assert (late.times_stored("taken"), other.times_stored("taken")) == (0, 1)
        assert queue.status("taken").tries == 1
    proxy.end()
