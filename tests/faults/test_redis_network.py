"""What lies between services and their Redis is slow, or breaks again and again: a candle has its one forecast all the same."""

from __future__ import annotations

import time

import pytest

from shared.klines import Interval
from tests.faults.recovery import Recovery
from tests.faults.stack import Stack
from tests.processes import eventually

pytestmark = pytest.mark.slow

SLOW_S = 0.3  # for each answer, of which a forecast takes dozens
BREAKS, BREAKS_APART_S = 20, 0.25


def test_a_slow_redis_makes_a_forecast_late_and_nobody_holds_its_worker_for_lost(
    stack: Stack, recovery: Recovery
) -> None:
    eventually(stack.redis_is_ready, 30)
    told_before = len(stack.worker.log())
    at_once_again = stack.redis.slow_down(SLOW_S)
    recovery.begins()
    with stack.ingest("ETHUSDT", Interval.D1):
        stack.made_once("ETHUSDT", Interval.D1)
        recovery.has_ended()
        eventually(stack.redis_is_ready, 30)
    at_once_again()
    assert "forecast_given_back" not in stack.worker.log()[told_before:]


def test_connections_that_break_again_and_again_lose_and_double_nothing(stack: Stack, recovery: Recovery) -> None:
    eventually(stack.redis_is_ready, 30)
    with stack.ingest("ETHUSDT", Interval.M3) as ingest:
        eventually(lambda: '"klines_fetched"' in ingest.log() or breaks(stack), 60, ingest.log)
        for _ in range(BREAKS):
            breaks(stack)
        recovery.begins()
        stack.made_once("ETHUSDT", Interval.M3)
        recovery.has_ended()
        eventually(stack.redis_is_ready, 30)
        assert stack.worker.process.poll() is None
        assert ingest.process.poll() is None


def breaks(stack: Stack) -> None:
    stack.redis.proxy.cut()
    time.sleep(BREAKS_APART_S)
