"""How fresh a series and its latest forecast are at a moment: as ingest said last, or stale where its next word is overdue.

Pure: the moment is handed in. A recording's clock stands still, so it never grows old.
"""

from __future__ import annotations

from shared.forecasts import Forecast
from shared.kline_store import SeriesStatus
from shared.klines import utc

GRACE_MS = 120_000  # from the moment that something is due until it is called overdue
CANDLES_MISSED = 2  # so many may be missing before nobody should forecast from the newest one any more


def ingest_is_silent(series: SeriesStatus, now_ms: int) -> bool:
    """Whether ingest has let the moment pass at which it meant to fetch next."""
    return series.origin != "recorded" and now_ms > series.next_fetch_at_ms + GRACE_MS


def as_of(series: SeriesStatus, now_ms: int) -> SeriesStatus:
    """The series as it stands at `now_ms` (UTC ms): stale, with the reason, where ingest has fallen silent."""
    if not ingest_is_silent(series, now_ms):
        return series
    problem = f"Ingest has not reported since {utc(series.checked_at_ms)}; start `kronos-live ingest` unless it has just begun."
    return series.model_copy(update={"state": "stale", "problem": problem})


def too_old_to_forecast(series: SeriesStatus, now_ms: int) -> bool:
    """Whether the newest candle closed so long ago that a forecast from it would speak of the past."""
    if series.origin == "recorded" or series.last_open_time_ms is None:
        return False
    closed_ms = series.last_open_time_ms + series.interval.ms
    return now_ms > closed_ms + CANDLES_MISSED * series.interval.ms + GRACE_MS


def successor_due_ms(latest: Forecast) -> int:
    """The close of the first candle that a forecast does not know, UTC ms."""
    return latest.last_open_time_ms + 2 * latest.request.interval.ms


def is_stale(series: SeriesStatus | None, latest: Forecast, now_ms: int) -> bool:
    """Whether the latest forecast of a series should have been followed by another, or its klines are stale."""
    # Of many series each is fetched at a moment of its own after the close.
    turn_ms = series.next_fetch_at_ms % series.interval.ms if series else 0
    overdue = latest.provenance.origin != "recorded" and now_ms > successor_due_ms(latest) + turn_ms + GRACE_MS
    return overdue or (series is not None and series.state == "stale")
