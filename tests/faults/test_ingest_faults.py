"""The venue, its time or ingest itself fails as a candle is due: the candle has its one forecast all the same, of the venue's
own klines, and what is old is never taken for new.
"""

from __future__ import annotations

import signal
from typing import Any

import pytest

from shared.klines import Interval
from tests.faults.recovery import Recovery
from tests.faults.stack import Stack
from tests.faults.venue_time import AFTER_CLOSE_MS, DAY_MS, now_ms
from tests.processes import eventually

HOUR_MS = 3_600_000

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
    stack: Stack, fault: str, recovery: Recovery
) -> None:
    kind, how, symbol, interval = FAULTS[fault]
    stack.venue.fail(kind, **how)
    recovery.begins()
    with stack.ingest(symbol, interval) as ingest:
        ingest.wait_for_log("cycle_failed")
        stack.made_once(symbol, interval)
        recovery.has_ended()
        assert "klines_simulated" not in ingest.log()


def test_two_ingests_at_once_make_one_forecast_of_a_candle(stack: Stack, recovery: Recovery) -> None:
    with stack.ingest("SOLUSDT", Interval.H6) as one, stack.ingest("SOLUSDT", Interval.H6) as other:
        eventually(lambda: all('"klines_fetched"' in ingest.log() for ingest in (one, other)), 60, other.log)
        recovery.begins()
        eventually(lambda: all('"forecast_' in ingest.log() for ingest in (one, other)), 60, other.log)
        stack.made_once("SOLUSDT", Interval.H6)
        recovery.has_ended()
        assert (one.log() + other.log()).count('"forecast_enqueued"') == 1


def test_an_ingest_that_is_killed_between_venue_and_queue_is_made_up_for_by_the_next(
    stack: Stack, recovery: Recovery
) -> None:
    stack.venue.fail("slow", seconds=2)
    with stack.ingest("BTCUSDT", Interval.H12) as first:
        asked = len(stack.venue.asked)
        eventually(lambda: len(stack.venue.asked) > asked, 30, first.log)
        first.end(signal.SIGKILL)
    recovery.begins()
    with stack.ingest("BTCUSDT", Interval.H12):
        stack.made_once("BTCUSDT", Interval.H12)
        recovery.has_ended()


@pytest.mark.parametrize(
    ("ahead_ms", "symbol"), [(5 * HOUR_MS, "ETHUSDT"), (-5 * HOUR_MS, "SOLUSDT")], ids=["hours behind", "hours ahead"]
)
def test_the_venue_decides_which_candle_is_closed_however_wrong_our_clock_is(
    stack: Stack, ahead_ms: int, symbol: str, recovery: Recovery
) -> None:
    stack.venue_time.set(Interval.H4.open_time(now_ms() + ahead_ms) + AFTER_CLOSE_MS)
    with stack.ingest(symbol, Interval.H4) as ingest:
        ingest.wait_for_log("clock_differs_from_venue")
        recovery.begins()
        stack.made_once(symbol, Interval.H4)
        recovery.has_ended()


def test_an_ingest_that_was_down_for_days_goes_on_with_the_newest_candle(stack: Stack, recovery: Recovery) -> None:
    stack.venue_time.begin_day(days_ago=3)
    with stack.ingest("ETHUSDT", Interval.H12):
        old = stack.made_once("ETHUSDT", Interval.H12)
    stack.venue_time.begin_day()
    recovery.begins()
    with stack.ingest("ETHUSDT", Interval.H12):
        new = stack.made_once("ETHUSDT", Interval.H12, 2)
        recovery.has_ended()
    assert new.last_open_time_ms - old.last_open_time_ms == 3 * DAY_MS


def test_a_symbol_that_is_delisted_goes_stale_with_the_reason_and_nothing_is_made_up(
    stack: Stack, monkeypatch: pytest.MonkeyPatch, recovery: Recovery
) -> None:
    stack.venue_time.begin_day(days_ago=1)
    with stack.ingest("SOLUSDT", Interval.H12):
        made = stack.made_once("SOLUSDT", Interval.H12)
    stack.venue_time.begin_day()
    monkeypatch.setattr(stack.venue, "series", lambda *_: None)
    with stack.ingest("SOLUSDT", Interval.H12) as ingest:
        ingest.wait_for_log("cycle_failed")
        recovery.begins()
        eventually(lambda: is_stale(stack), 30, ingest.log)
        recovery.has_ended()
        status = stack.stores.klines.status("SOLUSDT", Interval.H12)
    assert status is not None
    assert status.problem is not None
    assert "knows no symbol SOLUSDT" in status.problem
    assert status.last_open_time_ms == made.last_open_time_ms
    assert stack.stores.forecasts.scheduled_ids("SOLUSDT", Interval.H12, "live") == [made.id]


def test_a_candle_that_the_venue_revises_keeps_its_forecast_and_is_right_in_the_next_snapshot(
    stack: Stack, recovery: Recovery
) -> None:
    with stack.ingest("SOLUSDT", Interval.D1):
        made = stack.made_once("SOLUSDT", Interval.D1)
    stack.venue.fail("revised", times=None, back=0)
    recovery.begins()
    with stack.ingest("SOLUSDT", Interval.D1) as ingest:
        ingest.wait_for_log("forecast_already_made")
        recovery.has_ended()
    status = stack.stores.klines.status("SOLUSDT", Interval.D1)
    assert status is not None
    assert status.snapshot_id not in (None, made.provenance.snapshot_id)
    before, after = (stack.stores.klines.load(str(one)) for one in (made.provenance.snapshot_id, status.snapshot_id))
    assert (before.values != after.values).any(axis=1).nonzero()[0].tolist() == [len(before) - 1]
    stack.venue.faults.clear()
    assert stack.stores.forecasts.load(made.id) == made
    assert stack.stores.forecasts.scheduled_ids("SOLUSDT", Interval.D1, "live") == [made.id]


def is_stale(stack: Stack) -> bool:
    status = stack.stores.klines.status("SOLUSDT", Interval.H12)
    return status is not None and status.state == "stale"
