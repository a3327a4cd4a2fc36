"""A worker dies between taking a job and beginning it: a worker that lives puts the job back and makes its forecast."""

from __future__ import annotations

import pytest
from redis import Redis
from rq import Queue
from rq.serializers import JSONSerializer

from shared.kline_store import KlineStore
from tests.builders import forecast_request, kline_window, settings
from tests.faults.recovery import Recovery
from tests.faults.stack import Stack
from tests.processes import eventually

pytestmark = pytest.mark.slow


def test_a_job_whose_worker_died_as_it_took_it_is_made_by_another(stack: Stack, recovery: Recovery) -> None:
    redis: Redis = stack.redis.client
    eventually(stack.redis_is_ready, 30)
    queue = Queue(settings().queue.name, connection=redis, serializer=JSONSerializer)
    snapshot_id = KlineStore(redis, keep=10).save(kline_window())
    with redis.pipeline() as pipe:  # taken in the moment it comes, before the worker of the stack can
        waiting = queue.key, queue.intermediate_queue_key
        job = Queue.prepare_data(
            "services.inference.jobs.run_forecast",
            args=("stranded", forecast_request(snapshot_id, scheduled=False, num_samples=2).model_dump(mode="json")),
            job_id="stranded",
        )
        queue.enqueue_many([job], pipeline=pipe)
        pipe.lmove(*waiting)
        pipe.execute()
    recovery.begins()
    assert queue.job_ids == []
    eventually(lambda: stack.stores.forecasts.exists("stranded"), 60, stack.worker.log)
    recovery.has_ended()
    eventually(lambda: stack.stores.queue.status("stranded").state == "finished", 20, stack.worker.log)
    assert stack.stores.queue.status("stranded").tries == 1
