"""What a static site tells of one series: its newest forecast, what must be said of that, and its track record.

Read from the stores at one moment, in English. Knows neither pictures nor HTML. Nothing in it depends on the moment but
whether the forecast is stale, so the same forecast told again is the same site.
"""

from __future__ import annotations

from dataclasses import dataclass

from shared.calibration import FEWEST
from shared.errors import NotFoundError
from shared.forecast_store import ForecastStore
from shared.forecasts import Forecast, forecaster_of
from shared.freshness import as_of, is_stale, successor_due_ms
from shared.kline_store import KlineStore, SeriesStatus, describe_missing_series
from shared.klines import Interval, KlineWindow, utc
from shared.labels import forecast_labels
from shared.series_record import series_record
from shared.track_record import TrackRecord

WHY = {
    "SIMULATED DATA": "No market venue answered, so the klines are made up. Nothing here says anything about a market.",
    "RECORDED DATA": "The klines are of a file, and its last candle is taken as now.",
    "UPLOADED DATA": "The candles were sent with the request; no venue vouches for them. The last one is taken as now.",
    "FETCHED ONCE": "The klines were fetched for this forecast alone, so no newer one follows.",
}


@dataclass(frozen=True)
class Said:
    """One thing said in big letters, with the sentence below it."""

    title: str
    text: str


@dataclass(frozen=True)
class Told:
    """All that a site shows. `due_ms` is when the next forecast can be expected, UTC ms; None where none follows."""

    forecast: Forecast
    klines: KlineWindow | None  # None where retention has dropped the snapshot
    said: tuple[Said, ...]
    due_ms: int | None
    record: TrackRecord | None


def read_newest(
    klines: KlineStore, forecasts: ForecastStore, symbol: str, interval: Interval, now_ms: int
) -> tuple[Forecast, SeriesStatus | None]:
    """The schedule's newest forecast of a series, else the newest that anybody asked for, and how the series stands.

    Raises NotFoundError where there is none yet.
    """
    stored = klines.status(symbol, interval)
    series = as_of(stored, now_ms) if stored else None
    newest = forecasts.latest_scheduled(symbol, interval, series.origin) if series and series.origin else None
    newest = newest or next(iter(forecasts.newest(symbol, interval, 1)), None)
    if newest is None and series is None:
        raise NotFoundError(describe_missing_series(symbol, interval, klines.all_statuses()), field="symbol")
    if newest is None:
        raise NotFoundError(
            f"There is no forecast of {symbol} {interval} yet: `kronos-live status` says what it waits for."
        )
    return newest, series


def tell(
    klines: KlineStore, forecasts: ForecastStore, symbol: str, interval: Interval, now_ms: int, *, calibrates: bool
) -> Told:
    """What there is to tell at `now_ms` (UTC ms); `calibrates` is calibration.enabled. Raises NotFoundError."""
    forecast, series = read_newest(klines, forecasts, symbol, interval, now_ms)
    record = _record_of(forecasts, forecast)
    stale = stale_reason(forecast, series, now_ms)
    return Told(
        forecast,
        _snapshot_of(klines, forecast),
        (
            *([Said("STALE", stale)] if stale else []),
            *(Said(label, _why(label, forecast)) for label in forecast_labels(forecast)),
            *_uncalibrated(forecast, record, calibrates=calibrates),
        ),
        successor_due_ms(forecast) if _is_followed(forecast) else None,
        record,
    )


def stale_reason(forecast: Forecast, series: SeriesStatus | None, now_ms: int) -> str | None:
    """In a sentence, why there is no newer forecast although one is due; None while none is."""
    if not _is_followed(forecast) or not is_stale(series, forecast, now_ms):
        return None
    if series is not None and series.state == "stale" and series.problem:
        return series.problem
    return f"A newer forecast has been due since {utc(successor_due_ms(forecast))}, and there is none."


def _is_followed(forecast: Forecast) -> bool:
    """Whether the schedule will bring another one as time goes by: a recording's clock stands still."""
    return forecast.request.scheduled and forecast.provenance.origin in ("live", "simulated")


def _snapshot_of(klines: KlineStore, forecast: Forecast) -> KlineWindow | None:
    try:
        return klines.load(forecast.provenance.snapshot_id)
    except NotFoundError:
        return None


def _record_of(forecasts: ForecastStore, forecast: Forecast) -> TrackRecord | None:
    """Of the forecasts that were made as this one is; none of uploads, which nobody continues."""
    origin, request = forecast.provenance.origin, forecast.request
    if origin == "uploaded":
        return None
    entries = forecasts.ledger.entries(request.symbol, request.interval, origin)
    return series_record(request.symbol, request.interval, origin, entries, forecaster_of(forecast)).record


def _why(label: str, forecast: Forecast) -> str:
    if label != "BUNDLED MODEL":
        return WHY[label]
    other = forecast.provenance.model_stands_in_for
    instead = f" stands in for {other}, which could not be had" if other else ""
    return f"{forecast.provenance.model.name}{instead}. It is small: expect less of it than of the published models."


def _uncalibrated(forecast: Forecast, record: TrackRecord | None, *, calibrates: bool) -> list[Said]:
    if forecast.recalibrated:
        return []
    if not calibrates:
        why = "recalibration is switched off (calibration.enabled)"
    elif (scored := record.forecasts if record else 0) < FEWEST:
        why = f"{scored} of the {FEWEST} scored forecasts are there that recalibration learns from"
    else:
        why = f"this forecast was made before {FEWEST} of its kind were scored, or a path of it is not positive"
    return [Said("UNCALIBRATED", f"Bands and probabilities are as the model draws them; {why}.")]
