from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pytest

from services.inference.context import HorizonTooLongError, prepare_context, time_features
from shared.errors import RequestError
from tests.unit.inference.tiny import HOUR_MS, START_MS, random_context, random_klines


def test_history_is_left_out_before_normalising_so_that_all_fits() -> None:
    context = random_context(500, 24, 512, "trim")
    assert context.history_used == 488
    kept = random_klines(500)[-488:].astype(np.float32)
    np.testing.assert_array_equal(context.mean, kept.mean(axis=0))
    np.testing.assert_array_equal(
        context.normalised, np.clip((kept - kept.mean(axis=0)) / (kept.std(axis=0) + np.float32(1e-5)), -5, 5)
    )


def test_sliding_normalises_all_of_the_history() -> None:
    assert random_context(500, 24, 128, "slide").history_used == 500


def test_the_longest_horizon_leaves_64_candles_and_a_longer_one_is_refused_with_it() -> None:
    assert random_context(360, 64, 128, "trim").history_used == 64
    with pytest.raises(HorizonTooLongError, match=r"horizon of 65 candles does not fit .* at most 64") as refused:
        random_context(360, 65, 128, "trim")
    assert refused.value.longest == 64
    assert isinstance(refused.value, RequestError)
    assert refused.value.field == "horizon"


def test_a_window_that_slides_cannot_decode_more_than_it_holds() -> None:
    assert random_context(100, 128, 128, "slide").horizon == 128
    with pytest.raises(HorizonTooLongError, match="at most 128"):
        random_context(100, 129, 128, "slide")


def test_values_far_out_are_clipped() -> None:
    klines = random_klines(200)
    klines[50, 4] = 1e9
    context = prepare_context(
        klines, START_MS + HOUR_MS * np.arange(200), interval_ms=HOUR_MS, horizon=4, max_context=512, overflow="trim"
    )
    assert context.normalised[50, 4] == 5.0
    assert context.normalised.dtype == np.float32


def test_denormalising_undoes_normalising() -> None:
    context = random_context(200, 4, 512)
    np.testing.assert_allclose(context.denormalise(context.normalised), random_klines(200), rtol=1e-5)


def test_the_memory_layout_of_the_klines_changes_no_bit() -> None:
    klines = random_klines(360)
    times = START_MS + HOUR_MS * np.arange(360)
    by_row, by_column = (
        prepare_context(k, times, interval_ms=HOUR_MS, horizon=24, max_context=512, overflow="trim")
        for k in (klines, np.asfortranarray(klines))
    )
    np.testing.assert_array_equal(by_row.normalised, by_column.normalised)


def test_time_features_are_those_of_the_calendar_in_utc() -> None:
    moments = [
        datetime(1970, 1, 1, tzinfo=UTC),
        datetime(2024, 2, 29, 23, 59, tzinfo=UTC),
        datetime(2025, 12, 31, 7, 5, tzinfo=UTC),
        datetime(2026, 3, 1, 0, 30, tzinfo=UTC),
    ]
    features = time_features(np.array([int(moment.timestamp() * 1000) for moment in moments]))
    assert features.tolist() == [[m.minute, m.hour, m.weekday(), m.day, m.month] for m in moments]


def test_the_future_continues_the_history_at_the_interval() -> None:
    context = random_context(100, 3, 512)
    last = START_MS + HOUR_MS * 99
    assert context.future_open_times_ms.tolist() == [last + HOUR_MS, last + 2 * HOUR_MS, last + 3 * HOUR_MS]
    np.testing.assert_array_equal(context.future_time_features, time_features(context.future_open_times_ms))


def test_klines_and_times_of_different_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\(100, 6\) for 99 open times"):
        prepare_context(
            random_klines(100), np.arange(99), interval_ms=HOUR_MS, horizon=1, max_context=512, overflow="trim"
        )
