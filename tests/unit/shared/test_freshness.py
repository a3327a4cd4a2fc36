"""How fresh a series is, decided from plain values."""

from __future__ import annotations

import pytest

from shared.freshness import GRACE_MS, as_of, ingest_is_silent, too_old_to_forecast
from shared.kline_store import SeriesStatus
from shared.klines import Interval, Origin
from tests.builders import START_MS

HOUR_MS = Interval.H1.ms


def series(origin: Origin = "live", **said: object) -> SeriesStatus:
    """What ingest says five seconds after the candle of START_MS has closed."""
    as_said = {
        "symbol": "BTCUSDT",
        "interval": "1h",
        "state": origin,
        "venue": "binance",
        "origin": origin,
        "snapshot_id": "0" * 16,
        "last_open_time_ms": START_MS,
        "checked_at_ms": START_MS + HOUR_MS + 5_000,
        "next_fetch_at_ms": START_MS + 2 * HOUR_MS + 5_000,
        "problem": None,
        "ever_live": True,
    }
    return SeriesStatus.model_validate({**as_said, **said})


@pytest.mark.parametrize("origin", ["live", "simulated"])
def test_a_series_is_as_ingest_said_until_its_next_word_is_overdue(origin: Origin) -> None:
    said = series(origin)
    overdue_ms = said.next_fetch_at_ms + GRACE_MS + 1
    assert as_of(said, overdue_ms - 1) == said
    silent = as_of(said, overdue_ms)
    assert silent.state == "stale"
    assert silent.problem == (
        "Ingest has not reported since 2025-01-01 01:00:05Z; start `kronos-live ingest` unless it has just begun."
    )


def test_a_recording_never_grows_old() -> None:
    said = series("recorded")
    in_a_year = START_MS + 9_000 * HOUR_MS
    assert as_of(said, in_a_year) == said
    assert not ingest_is_silent(said, in_a_year)
    assert not too_old_to_forecast(said, in_a_year)


def test_what_ingest_says_of_a_venue_stands_while_ingest_goes_on_speaking() -> None:
    said = series(state="stale", problem="No venue answers.", next_fetch_at_ms=START_MS + 9 * HOUR_MS)
    assert as_of(said, START_MS + 8 * HOUR_MS) == said


def test_two_missing_candles_are_too_old_to_forecast_from_whatever_ingest_says() -> None:
    said = series(next_fetch_at_ms=START_MS + 9 * HOUR_MS)
    two_missed_ms = START_MS + 3 * HOUR_MS + GRACE_MS
    assert not too_old_to_forecast(said, two_missed_ms)
    assert too_old_to_forecast(said, two_missed_ms + 1)
