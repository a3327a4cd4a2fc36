"""Which klines an asked-for forecast is made on: the newest snapshot of its series, or what is fetched for it.

Decides what may be fetched and says why not; how it is fetched is for ingest.
"""

from __future__ import annotations

from collections.abc import Sequence

from shared.errors import RequestError, UnknownSeriesError
from shared.fetches import Fetch, Fetches
from shared.forecasts import ForecastOverrides
from shared.freshness import as_of, too_old_to_forecast
from shared.kline_store import KlineStore, SeriesStatus, describe_missing_series
from shared.klines import utc
from shared.settings import Settings
from shared.venue_symbols import describe_untraded, is_untraded


def newest_snapshot_or_fetch(
    settings: Settings, klines: KlineStore, wish: ForecastOverrides, now_ms: int
) -> str | Fetch:
    """The id of the series' newest snapshot; the fetch that is needed where nobody ingests the series, or it has grown
    old. `now_ms` is UTC ms.
    """
    symbol, interval = wish.symbol or settings.data.symbol, wish.interval or settings.data.interval
    series = klines.status(symbol, interval)
    if series is not None and series.snapshot_id is not None and not too_old_to_forecast(series, now_ms):
        return series.snapshot_id
    settled_ms = now_ms - round(settings.venues.settle_seconds * 1000)
    return Fetch(symbol, interval, interval.open_time(settled_ms) - interval.ms)


def refuse_what_nobody_fetches(
    settings: Settings, klines: KlineStore, fetches: Fetches, wanted: Sequence[Fetch], field: str, now_ms: int
) -> None:
    """Raises UnknownSeriesError where no venue trades a symbol, and, if there is nobody who could fetch it, that or, for a
    series that has grown old, RequestError. `field` is what the person named it by.
    """
    if not wanted:
        return
    if _may_fetch(settings):
        _refuse_untraded(settings, fetches, wanted, field)
        if fetches.ingests():
            return
    first = wanted[0]
    series = klines.status(first.symbol, first.interval)
    if series is not None and series.snapshot_id is not None:
        raise RequestError(_too_old(series), field=field)
    known = [as_of(one, now_ms) for one in klines.all_statuses()]
    missing = describe_missing_series(first.symbol, first.interval, known)
    raise UnknownSeriesError(f"{missing} {_why_not_fetched(settings)}", field=field)


def _refuse_untraded(settings: Settings, fetches: Fetches, wanted: Sequence[Fetch], field: str) -> None:
    """Every venue has every interval, so the symbol alone is held against what they trade."""
    venues = settings.data.venues
    known = fetches.symbols.known(venues)
    for fetch in wanted:
        if is_untraded(fetch.symbol, venues, known):
            raise UnknownSeriesError(describe_untraded(fetch.symbol, venues, known), field=field)


def _may_fetch(settings: Settings) -> bool:
    """A recording holds one series alone."""
    return "recorded" not in settings.data.venues


def _too_old(series: SeriesStatus) -> str:
    closed_ms = (series.last_open_time_ms or 0) + series.interval.ms
    return (
        f"{series.symbol} {series.interval} is stale: ingest has brought nothing since the candle that closed at "
        f"{utc(closed_ms)}; start `kronos-live ingest` for it, or see in `kronos-live status` what holds it up."
    )


def _why_not_fetched(settings: Settings) -> str:
    if not _may_fetch(settings):
        return "Others cannot be fetched, since data.recorded_file holds one series alone."
    return "Any other of a venue is fetched by ingest, which does not run: start `kronos-live ingest`."
