from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.ingest.schedule import due_open_time, next_fetch_time, settle_seconds_of
from services.ingest.venue_clock import VenueClock
from shared.klines import Interval
from shared.settings import Series


def ms(*parts: int) -> int:
    return round(datetime(*parts, tzinfo=UTC).timestamp() * 1000)  # type: ignore[misc, arg-type]


@pytest.mark.parametrize(
    ("now", "fetched"),
    [
        ((2026, 11, 23, 12, 0, 4), (2026, 11, 23, 12, 0, 5)),
        ((2026, 11, 23, 12, 0, 5), (2026, 11, 23, 13, 0, 5)),
        ((2026, 11, 23, 12, 59, 59), (2026, 11, 23, 13, 0, 5)),
        ((2026, 11, 30, 23, 30), (2026, 12, 1, 0, 0, 5)),
        ((2028, 2, 28, 23, 0, 5), (2028, 2, 29, 0, 0, 5)),
        ((2026, 12, 31, 23, 59), (2027, 1, 1, 0, 0, 5)),
    ],
)
def test_hourly_candles_are_fetched_five_seconds_past_the_hour(now: tuple[int, ...], fetched: tuple[int, ...]) -> None:
    assert next_fetch_time(Interval.H1, ms(*now), 5) == ms(*fetched)


def test_daylight_saving_changes_nothing() -> None:
    before = datetime(2026, 3, 29, 1, 30, tzinfo=ZoneInfo("Europe/Berlin"))  # half an hour before clocks go forward
    at = next_fetch_time(Interval.H4, round(before.timestamp() * 1000), 5)
    assert datetime.fromtimestamp(at / 1000, UTC) == datetime(2026, 3, 29, 4, 0, 5, tzinfo=UTC)


def test_the_due_candle_is_the_newest_one_that_has_closed() -> None:
    assert due_open_time(Interval.H1, ms(2026, 11, 23, 12, 0, 0)) == ms(2026, 11, 23, 11)
    assert due_open_time(Interval.H1, ms(2026, 11, 23, 12, 59, 59)) == ms(2026, 11, 23, 11)
    assert due_open_time(Interval.D1, ms(2027, 1, 1, 0, 0, 5)) == ms(2026, 12, 31)


@given(
    st.sampled_from(Interval),
    st.integers(0, 4_000_000_000_000),
    st.floats(0, 60, allow_nan=False),
)
def test_the_next_fetch_is_ahead_within_one_interval_and_settle_seconds_past_a_close(
    interval: Interval, now_ms: int, settle: float
) -> None:
    at = next_fetch_time(interval, now_ms, settle)
    assert now_ms < at <= now_ms + interval.ms
    assert (at - round(settle * 1000)) % interval.ms == 0


def test_the_venues_clock_is_followed_when_ours_is_wrong_and_left_alone_within_the_grain_of_a_header() -> None:
    ours = ms(2026, 11, 23, 12, 10)
    clock = VenueClock(lambda: ours)
    clock.hear(ours - 1900)
    assert clock.now_ms() == ours
    clock.hear(ours - 600_000)
    assert clock.now_ms() == ours - 600_000
    clock.hear(ours + 500)
    assert clock.now_ms() == ours


def test_series_are_fetched_one_after_the_other_and_short_intervals_first() -> None:
    hour, day, minute = (Series("BTCUSDT", one) for one in (Interval.H1, Interval.D1, Interval.M1))
    settled = settle_seconds_of([hour, day, minute], 5, 0.05)
    assert settled == pytest.approx({minute: 5, hour: 5.05, day: 5.1})
    assert list(settled) == [minute, hour, day], "in the order in which they are fetched"


def test_more_series_than_an_interval_has_room_for_are_all_fetched_before_it_is_over() -> None:
    many = [Series(f"C{place}USDT", Interval.M1) for place in range(3000)]
    settled = settle_seconds_of(many, 5, 0.05)
    assert len(settled) == 3000
    assert all(5 <= seconds < 60 for seconds in settled.values())
    assert settled[many[1000]] == 55
    assert settled[many[1100]] == pytest.approx(5)
