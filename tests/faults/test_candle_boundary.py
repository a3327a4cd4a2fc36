"""A candle closes while everything runs, and something fails as it does: each candle has its one forecast all the same."""

from __future__ import annotations

import signal

from shared.klines import Interval
from tests.faults.recovery import Recovery
from tests.faults.stack import Stack
from tests.processes import Service, eventually

BEFORE_CLOSE_S = 6.0  # that the venue's time stands still until all have asked it


def test_ingest_goes_from_one_candle_to_the_next_by_itself(stack: Stack, recovery: Recovery) -> None:
    stack.venue_time.stop_before_close(Interval.M5, BEFORE_CLOSE_S)
    with stack.ingest("BTCUSDT", Interval.M5) as ingest:
        old = first_candle(stack, "BTCUSDT", ingest)
        candle_closes(stack, "BTCUSDT", recovery)
        new = stack.made_once("BTCUSDT", Interval.M5, 2)
        recovery.has_ended()
    assert new.last_open_time_ms - old == Interval.M5.ms


def test_of_two_ingests_one_is_killed_before_a_candle_closes_and_the_other_brings_it(
    stack: Stack, recovery: Recovery
) -> None:
    stack.venue_time.stop_before_close(Interval.M5, BEFORE_CLOSE_S)
    with stack.ingest("ETHUSDT", Interval.M5) as one, stack.ingest("ETHUSDT", Interval.M5) as other:
        old = first_candle(stack, "ETHUSDT", one, other)
        one.end(signal.SIGKILL)
        candle_closes(stack, "ETHUSDT", recovery)
        new = stack.made_once("ETHUSDT", Interval.M5, 2)
        recovery.has_ended()
        assert new.last_open_time_ms - old == Interval.M5.ms
        assert (one.log() + other.log()).count('"forecast_enqueued"') == 2


def test_two_ingests_that_see_a_candle_close_at_once_ask_for_its_forecast_once(
    stack: Stack, recovery: Recovery
) -> None:
    stack.venue_time.stop_before_close(Interval.M3, BEFORE_CLOSE_S)
    with stack.ingest("BTCUSDT", Interval.M3) as one, stack.ingest("BTCUSDT", Interval.M3) as other:
        first_candle(stack, "BTCUSDT", one, other, interval=Interval.M3)
        candle_closes(stack, "BTCUSDT", recovery, Interval.M3)
        stack.made_once("BTCUSDT", Interval.M3, 2)
        recovery.has_ended()
        eventually(lambda: all(ingest.log().count('"forecast_') == 2 for ingest in (one, other)), 60, other.log)
        assert (one.log() + other.log()).count('"forecast_enqueued"') == 2


def test_a_candle_that_closes_while_redis_hangs_has_its_forecast_when_redis_is_back(
    stack: Stack, recovery: Recovery
) -> None:
    stack.venue_time.stop_before_close(Interval.M5, BEFORE_CLOSE_S)
    with stack.ingest("SOLUSDT", Interval.M5) as ingest:
        old = first_candle(stack, "SOLUSDT", ingest)
        go_on = stack.redis.stop()
        try:
            candle_closes(stack, "SOLUSDT", recovery)
            ingest.wait_for_log("Redis cannot be used at the moment")
        finally:
            go_on()
            recovery.begins()
        new = stack.made_once("SOLUSDT", Interval.M5, 2)
        recovery.has_ended()
    assert new.last_open_time_ms - old == Interval.M5.ms


def first_candle(stack: Stack, symbol: str, *ingests: Service, interval: Interval = Interval.M5) -> int:
    """Open time of the candle that has its forecast, and that each ingest knows of."""
    for ingest in ingests:
        ingest.wait_for_log('"forecast_')
    return stack.made_once(symbol, interval).last_open_time_ms


def candle_closes(stack: Stack, symbol: str, recovery: Recovery, interval: Interval = Interval.M5) -> None:
    """Return when the next has closed by the venue's time, which goes on."""
    candle = interval.open_time(stack.venue_time())
    stack.venue_time.go_on()
    eventually(lambda: interval.open_time(stack.venue_time()) > candle, 60)
    recovery.begins()
