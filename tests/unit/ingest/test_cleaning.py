from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from services.ingest.cleaning import CleanKlines, clean, describe
from services.ingest.venues.venue import FetchedKlines
from shared.errors import VenueError
from shared.klines import CLOSE, HIGH, LOW, Interval
from tests.builders import START_MS, kline_values

STEP = Interval.H1.ms
COUNT = 100


def told(times: NDArray[np.int64], values: NDArray[np.float64]) -> FetchedKlines:
    return FetchedKlines("binance", "live", int(times.max(initial=0)) + STEP, times, values)


def good() -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    return START_MS + STEP * np.arange(COUNT, dtype=np.int64), kline_values(COUNT)


def cleaned(times: NDArray[np.int64], values: NDArray[np.float64]) -> CleanKlines:
    return clean(told(times, values), "BTCUSDT", Interval.H1)


def kinds(found: CleanKlines) -> list[str]:
    return [defect.kind for defect in found.defects]


def test_good_rows_stay_as_they_are() -> None:
    times, values = good()
    found = cleaned(times, values)
    assert not found.defects
    assert np.array_equal(found.window.open_times_ms, times)
    assert np.array_equal(found.window.values, values)


def test_a_row_told_twice_alike_counts_once_and_is_named() -> None:
    times, values = good()
    found = cleaned(np.insert(times, 40, times[40]), np.insert(values, 40, values[40], axis=0))
    assert kinds(found) == ["duplicate"]
    assert np.array_equal(found.window.values, values)


def test_rows_that_contradict_each_other_count_as_missing() -> None:
    times, values = good()
    other = values[40] * 1.0001
    found = cleaned(np.insert(times, 40, times[40]), np.insert(values, 40, other, axis=0))
    assert kinds(found) == ["duplicate", "gap"]
    assert found.window.open_times_ms[0] == times[41]


def test_rows_out_of_order_are_put_in_order_and_named() -> None:
    times, values = good()
    order = [*range(40), 41, 40, *range(42, COUNT)]
    found = cleaned(times[order], values[order])
    assert kinds(found) == ["disorder"]
    assert np.array_equal(found.window.values, values)


def test_the_run_after_the_last_gap_stays() -> None:
    times, values = good()
    found = cleaned(np.delete(times, [20, 60, 61]), np.delete(values, [20, 60, 61], axis=0))
    assert kinds(found) == ["gap", "gap"]
    assert found.window.open_times_ms[0] == times[62]
    assert "2 candles are missing" in describe(found.defects)


@pytest.mark.parametrize("spoil", [np.nan, np.inf, -np.inf])
def test_a_value_that_is_no_finite_number_makes_its_row_missing(spoil: float) -> None:
    times, values = good()
    values[40, CLOSE] = spoil
    found = cleaned(times, values)
    assert kinds(found) == ["non_finite", "gap"]
    assert found.window.open_times_ms[0] == times[41]


def test_an_impossible_row_is_missing() -> None:
    times, values = good()
    values[40, [HIGH, LOW]] = values[40, [LOW, HIGH]]
    assert kinds(cleaned(times, values)) == ["inconsistent", "gap"]


def test_a_row_between_two_candles_is_left_out_and_named() -> None:
    times, values = good()
    found = cleaned(np.insert(times, 41, times[40] + 60_000), np.insert(values, 41, values[40], axis=0))
    assert kinds(found) == ["misaligned"]
    assert len(found.window) == COUNT


def test_nothing_usable_is_an_error_that_names_what_was_wrong() -> None:
    times, values = good()
    with pytest.raises(VenueError, match=r"no usable candle of BTCUSDT 1h \(non_finite: 2025-01-01 00:00:00Z"):
        cleaned(times, np.full_like(values, np.nan))
    with pytest.raises(VenueError, match="no usable candle"):
        cleaned(times[:0], values[:0])


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_whatever_is_told_the_window_is_the_longest_sound_tail_and_holds_only_rows_that_were_told(
    data: st.DataObject,
) -> None:
    times, values = good()
    rows = data.draw(st.lists(st.integers(0, COUNT - 1), min_size=1, max_size=150))
    spoilt = data.draw(st.sets(st.integers(0, COUNT - 1), max_size=8))
    values[sorted(spoilt), CLOSE] = np.nan
    usable = set(rows) - spoilt
    if not usable:
        with pytest.raises(VenueError):
            cleaned(times[rows], values[rows])
        return
    found = cleaned(times[rows], values[rows])
    last = first = max(usable)
    while first - 1 in usable:
        first -= 1
    assert found.window.open_times_ms.tolist() == times[first : last + 1].tolist()
    assert np.array_equal(found.window.values, values[first : last + 1])
    sound = rows == list(range(rows[0], rows[-1] + 1)) and not spoilt & set(rows)
    assert bool(found.defects) is not sound
