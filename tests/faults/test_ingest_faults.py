"""The venue, its time or ingest itself fails as a candle is due: the candle has its one forecast all the same, of the venue's
own klines, and what is old is never taken for new.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from typing import Any

import pytest

from shared.klines import Interval
from tests.faults.stack import Stack
from tests.processes import eventually

pytestmark = pytest.mark.slow

Record = Callable[[str, object], None]
DAY_MS = 86_400_000

# By each fault what the venue does, and a series of its own.
FAULTS: dict[str, tuple[str, dict[str, Any], str, Interval]] = {
    "maintenance, with an error": ("500", {"times": 3}, "BTCUSDT", Interval.M15),
    "maintenance, with a page of HTML": ("garbage", {"times": 2}, "ETHUSDT", Interval.M15),
    "asked too often": ("429", {"times": 1, "retry_after": 2}, "SOLUSDT", Interval.M15),
    "answers break off": ("cut", {"times": 2}, "BTCUSDT", Interval.M30),
    "answers come too late": ("slow", {"times": 1, "seconds": 8}, "ETHUSDT", Interval.M30),
    "answers of another shape": ("shape", {"times": 2}, "SOLUSDT", Interval.M30),
    "the candle is not there yet at its close": ("lag", {"times": 2, "back": 0}, "BTCUSDT", Interval.H6),
    "the newest candle is broken at first": ("inconsistent", {"times": 2, "back": 0}, "ETHUSDT", Interval.H6),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_candle_has_its_forecast_once_when_the_venue_is_well_again(
    stack: Stack, fault: str, record_property: Record
) -> None:
    kind, how, symbol, interval = FAULTS[fault]
    stack.venue.fail(kind, **how)
    began = time.monotonic()
    with stack.ingest(symbol, interval) as ingest:
        ingest.wait_for_log("cycle_failed")
        stack.made_once(symbol, interval)
        record_property("recovery_s", time.monotonic() - began)
        assert "klines_simulated" not in ingest.log()


def test_two_ingests_at_once_make_one_forecast_of_a_candle(stack: Stack) -> None:
    with stack.ingest("SOLUSDT", Interval.H6) as one, stack.ingest("SOLUSDT", Interval.H6) as other:
        eventually(lambda: all("forecast_" in ingest.log() for ingest in (one, other)), 60, other.log)
        stack.made_once("SOLUSDT", Interval.H6)
        assert (one.log() + other.log()).count('"forecast_enqueued"') == 1


def test_an_ingest_that_is_killed_between_venue_and_queue_is_made_up_for_by_the_next(
    stack: Stack, record_property: Record
) -> None:
    stack.venue.fail("slow", seconds=2)
    with stack.ingest("BTCUSDT", Interval.H12) as first:
        asked = len(stack.venue.asked)
        eventually(lambda: len(stack.venue.asked) > asked, 30, first.log)
        first.end(signal.SIGKILL)
    killed = time.monotonic()
    with stack.ingest("BTCUSDT", Interval.H12):
        stack.made_once("BTCUSDT", Interval.H12)
        record_property("recovery_s", time.monotonic() - killed)


@pytest.mark.parametrize(("ahead_ms", "interval"), [(5 * 3_600_000, Interval.H4), (-5 * 3_600_000, Interval.H4)])
def test_the_venue_decides_which_candle_is_closed_however_wrong_our_clock_is(
    stack: Stack, ahead_ms: int, interval: Interval
) -> None:
    symbol = "ETHUSDT" if ahead_ms > 0 else "SOLUSDT"
    before = stack.stores.forecasts.scheduled_ids(symbol, interval, "live")
    stack.venue_time.ahead_ms = ahead_ms
    try:
        with stack.ingest(symbol, interval) as ingest:
            ingest.wait_for_log("clock_differs_from_venue")
            stack.made_once(symbol, interval, len(before) + 1)
    finally:
        stack.venue_time.ahead_ms = 0


def test_an_ingest_that_was_down_for_days_goes_on_with_the_newest_candle(stack: Stack, record_property: Record) -> None:
    stack.venue_time.ahead_ms = -3 * DAY_MS
    try:
        with stack.ingest("ETHUSDT", Interval.H12):
            old = stack.made_once("ETHUSDT", Interval.H12)
    finally:
        stack.venue_time.ahead_ms = 0
    began = time.monotonic()
    with stack.ingest("ETHUSDT", Interval.H12):
        new = stack.made_once("ETHUSDT", Interval.H12, 2)
        record_property("recovery_s", time.monotonic() - began)
    assert new.last_open_time_ms - old.last_open_time_ms == 3 * DAY_MS


def test_a_symbol_that_is_delisted_goes_stale_with_the_reason_and_nothing_is_made_up(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    stack.venue_time.ahead_ms = -DAY_MS
    try:
        with stack.ingest("SOLUSDT", Interval.H12):
            made = stack.made_once("SOLUSDT", Interval.H12)
    finally:
        stack.venue_time.ahead_ms = 0
    monkeypatch.setattr(stack.venue, "series", lambda *_: None)
    with stack.ingest("SOLUSDT", Interval.H12) as ingest:
        ingest.wait_for_log("cycle_failed")
        eventually(lambda: is_stale(stack), 30, ingest.log)
        status = stack.stores.klines.status("SOLUSDT", Interval.H12)
    assert status is not None
    assert status.problem is not None
    assert "knows no symbol SOLUSDT" in status.problem
    assert status.last_open_time_ms == made.last_open_time_ms
    assert stack.stores.forecasts.scheduled_ids("SOLUSDT", Interval.H12, "live") == [made.id]


def is_stale(stack: Stack) -> bool:
    status = stack.stores.klines.status("SOLUSDT", Interval.H12)
    return status is not None and status.state == "stale"
