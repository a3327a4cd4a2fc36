"""A window of klines can be trusted, because one that breaks a rule cannot be made."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from shared.errors import KlineError
from shared.klines import CLOSE, HIGH, VOLUME, Interval, KlineWindow, find_defects, utc
from tests.builders import START_MS, kline_values, kline_window

HOUR_MS = Interval.H1.ms


def spoiled(row: int, column: int, value: float) -> KlineWindow:
    window = kline_window(100)
    values = window.values.copy()
    values[row, column] = value
    return replace(window, values=values)


def test_intervals_know_their_length_and_their_open_times() -> None:
    assert [Interval(name).seconds for name in ("1m", "15m", "1h", "4h", "1d")] == [60, 900, 3600, 14_400, 86_400]
    assert Interval.H4.open_time(START_MS + 5 * HOUR_MS + 1) == START_MS + 4 * HOUR_MS


@pytest.mark.parametrize(
    ("row", "column", "value", "kind"),
    [
        (3, CLOSE, np.nan, "non_finite"),
        (3, HIGH, 1.0, "inconsistent"),
        (3, VOLUME, -1.0, "inconsistent"),
        (3, CLOSE, np.inf, "non_finite"),
    ],
)
def test_a_bad_row_is_refused_and_named_with_its_time(row: int, column: int, value: float, kind: str) -> None:
    with pytest.raises(KlineError, match=f"{kind}, 2025-01-01 03:00:00Z"):
        spoiled(row, column, value)


@pytest.mark.parametrize(
    ("hours", "kind"),
    [([0, 1, 3], "gap"), ([0, 1, 1], "duplicate"), ([0, 2, 1], "disorder"), ([0, 0.5, 1], "misaligned")],
)
def test_rows_out_of_order_are_named(hours: list[float], kind: str) -> None:
    times = np.array([START_MS + int(hour * HOUR_MS) for hour in hours], dtype=np.int64)
    assert kind in {defect.kind for defect in find_defects(times, kline_values(3), Interval.H1)}


def test_a_gap_says_how_many_candles_are_missing() -> None:
    times = np.array([START_MS, START_MS + 4 * HOUR_MS], dtype=np.int64)
    [defect] = find_defects(times, kline_values(2), Interval.H1)
    assert defect.detail == "3 candles are missing between 2025-01-01 00:00:00Z and 2025-01-01 04:00:00Z"


def test_an_empty_window_is_refused() -> None:
    with pytest.raises(KlineError, match="at least one row"):
        kline_window(0)


def test_the_content_hash_covers_rows_series_and_origin() -> None:
    window = kline_window(100)
    values = window.values.copy()
    values[50, VOLUME] += 1e-9
    different = [
        replace(window, values=values),
        replace(window, venue="okx"),
        replace(window, origin="simulated"),
        window.tail(99),
    ]
    assert len({one.content_hash() for one in [window, *different]}) == 5
    assert window.content_hash() == kline_window(100).content_hash()


def test_the_tail_keeps_the_newest_candles() -> None:
    tail = kline_window(100).tail(10)
    assert len(tail) == 10
    assert tail.last_close_time_ms == START_MS + 100 * HOUR_MS
    assert utc(tail.last_open_time_ms) == "2025-01-05 03:00:00Z"
