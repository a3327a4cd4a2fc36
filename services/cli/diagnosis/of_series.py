"""Each configured series: how fresh its klines are, whether they are real, and whether forecasts follow them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from services.cli.diagnosis.finding import Finding, ok, warning, wrong
from shared.forecast_store import ForecastStore
from shared.freshness import as_of
from shared.kline_store import KlineStore, SeriesStatus
from shared.klines import utc
from shared.settings import Series

INTERVALS_WITHOUT_FORECAST = 2


def examine_series(
    klines: KlineStore, forecasts: ForecastStore, configured: Sequence[Series], now_ms: int
) -> Iterator[Finding]:
    """Two findings for each, at `now_ms` (UTC ms). Raises StoreUnavailableError."""
    known = {(one.symbol, one.interval): as_of(one, now_ms) for one in klines.all_statuses()}
    for series in configured:
        status = known.get((series.symbol, series.interval))
        yield _klines(series, status)
        if status is not None and status.origin is not None:
            latest = forecasts.latest_scheduled(series.symbol, series.interval, status.origin)
            age_s = now_ms / 1000 - latest.created_at.timestamp() if latest else None
            yield _forecast(series, age_s, recorded=status.origin == "recorded")


def _klines(series: Series, status: SeriesStatus | None) -> Finding:
    check = f"klines of {series}"
    if status is None:
        return wrong(check, "They have never been fetched.", "Start `kronos-live ingest` with this configuration.")
    newest = utc(status.last_open_time_ms) if status.last_open_time_ms is not None else "none"
    if status.state == "stale":
        return wrong(
            check,
            f"They are stale, the newest candle is {newest}: {status.problem}",
            "See that ingest runs and that this machine reaches a venue of data.venues; it goes on by itself then.",
        )
    if status.state == "simulated":
        return warning(
            check,
            f"They are made up: {status.problem}",
            "See that ingest's machine reaches a venue of data.venues; data.allow_simulated: false forbids made-up ones.",
        )
    if status.problem:
        return warning(
            check, f"The newest candle is {newest}, but: {status.problem}", "See whether that suffices for you."
        )
    return ok(check, f"The newest candle is {newest}, from {status.venue}.")


def _forecast(series: Series, age_s: float | None, *, recorded: bool) -> Finding:
    check, most_s = f"forecast of {series}", INTERVALS_WITHOUT_FORECAST * series.interval.ms / 1000
    todo = "See what is said above of workers and queue, and look at a worker's log."
    if age_s is None:
        return wrong(check, "There is none of the schedule yet.", todo)
    made = f"The latest of the schedule was made {age_s / 60:.0f} min ago"
    if age_s > most_s and not recorded:  # a recording has no next candle
        return wrong(check, f"{made}, over {INTERVALS_WITHOUT_FORECAST} intervals.", todo)
    return ok(check, f"{made}.")
