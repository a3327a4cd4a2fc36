"""Redis fails under a running stack as a candle is due: everybody says so, and when Redis is back the candle's forecast is
made, once, of what the venue told, without anything being started anew.
"""

from __future__ import annotations

import pytest

from shared.klines import Interval
from tests.faults.recovery import Recovery
from tests.faults.redis_faults import FaultyRedis
from tests.faults.stack import Stack
from tests.processes import eventually

pytestmark = pytest.mark.slow

# By each fault a series of its own, so that the stack can go on from one to the next.
FAULTS = {
    "memory is full": (FaultyRedis.fill, "BTCUSDT", Interval.H1),
    "it has become a replica": (FaultyRedis.become_a_replica, "ETHUSDT", Interval.H1),
    "its password has changed": (FaultyRedis.change_the_password, "SOLUSDT", Interval.H1),
    "it hangs": (FaultyRedis.stop, "BTCUSDT", Interval.H2),
    "its writes are paused for a fail-over": (FaultyRedis.pause_writes, "ETHUSDT", Interval.H2),
    "it was killed and started again": (FaultyRedis.die, "SOLUSDT", Interval.H2),
    "it comes back with nothing": (FaultyRedis.lose_everything, "BTCUSDT", Interval.H4),
    "its answers come too late": (FaultyRedis.answer_too_slowly, "BTCUSDT", Interval.D1),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_the_forecast_is_made_once_when_redis_is_of_use_again(stack: Stack, fault: str, recovery: Recovery) -> None:
    put_on, symbol, interval = FAULTS[fault]
    eventually(stack.redis_is_ready, 30)
    told_before = len(stack.worker.log())
    lift = put_on(stack.redis)
    with stack.ingest(symbol, interval) as ingest:
        try:
            ingest.wait_for_log("Redis cannot be used at the moment")
            eventually(lambda: not stack.redis_is_ready(), 30)
            worker_says = ("redis_refuses", "waiting_for_redis", "heartbeat_cannot_be_told", "could not connect")
            eventually(
                lambda: any(one in stack.worker.log()[told_before:] for one in worker_says), 60, stack.worker.log
            )
        finally:
            lift()
            recovery.begins()
        stack.made_once(symbol, interval)
        recovery.has_ended()
        eventually(stack.redis_is_ready, 30)
        eventually(lambda: stack.stores.queue.workers() == 1, 30, stack.worker.log)
        assert stack.worker.process.poll() is None
        assert ingest.process.poll() is None
