"""During an upgrade a job comes that only newer workers can read: an older one leaves it to them and does what it can read."""

from __future__ import annotations

from rq import Queue
from rq.serializers import JSONSerializer

from shared.contract import JOB_VERSION, VERSION
from tests.builders import forecast_request, kline_window, settings
from tests.faults.recovery import Recovery
from tests.faults.stack import Stack
from tests.processes import eventually


def test_a_job_of_a_newer_version_is_left_to_newer_workers_and_holds_up_nobody(
    stack: Stack, recovery: Recovery
) -> None:
    eventually(stack.redis_is_ready, 30)
    queue = Queue(settings().queue.name, connection=stack.redis.client, serializer=JSONSerializer)
    newer = queue.enqueue_call(
        "services.inference.jobs.run_forecast",
        args=("newer", {"words": "that this version does not know"}),
        job_id="newer",
        meta={VERSION: JOB_VERSION + 1},
    )
    try:
        stack.worker.wait_for_log("forecast_left_to_newer_worker")
        snapshot_id = stack.stores.klines.save(kline_window())
        recovery.begins()
        assert stack.stores.queue.enqueue("readable", forecast_request(snapshot_id, scheduled=False, num_samples=2))
        eventually(lambda: stack.stores.forecasts.exists("readable"), 60, stack.worker.log)
        recovery.has_ended()
        status = stack.stores.queue.status("newer")
        assert (status.state, status.tries) == ("queued", 0)
    finally:
        newer.delete()
