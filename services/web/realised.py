"""What then happened: the candles that followed a forecast's last known one, beside what the forecast had said of them.

Takes them from stored snapshots of the same venue and origin alone. Looks at one forecast, so it says nothing of how often
its kind is right. Knows no HTTP.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from services.web.languages import Saying
from services.web.situation import Stores
from shared.contract import Contract
from shared.forecast_store import Neighbours
from shared.forecasts import Forecast
from shared.kline_store import Followed, SeriesStatus
from shared.klines import CLOSE, COLUMNS
from shared.statistics import Floats

NOTHING = Followed(np.empty(0, dtype=np.int64), np.empty((0, len(COLUMNS))))


class BandCount(Contract):
    """How many of the closes lay within a band, its edges included."""

    level: int
    kind: str = Field(description="quantile, or range: of too few paths the band is only their range")
    inside: int
    of: int


class Comparison(Contract):
    """One forecast beside what then happened. It is no track record: the closes of one forecast hang together."""

    step: int = Field(description="the last step whose candle is kept, from 1")
    close: float = Field(description="the close of that step")
    change: float = Field(description="that close against the last known one, as a share")
    median_error: float = Field(
        description="the forecast median at that step less the close, as a share of the last known close"
    )
    mean_absolute_error: float = Field(description="the same without its sign, the mean over all steps that are kept")
    bands: list[BandCount]
    ended_above: bool | None = Field(
        description="whether the close of the last step lies above the last known one; none until that is kept"
    )
    upside: float = Field(description="the probability that the forecast had given to that")


@dataclass(frozen=True)
class Realised:
    """What has become of a forecast: `closed` of its candles are over, those in `followed` are kept; `why` not all."""

    closed: int
    followed: Followed
    why: list[Saying]
    closes: dict[int, float]  # by step, from 1
    comparison: Comparison | None
    beside: Neighbours
    series: SeriesStatus | None  # of the forecast, where anybody keeps it up


def followed_candles(stores: Stores, forecast: Forecast) -> Followed:
    """The candles of the forecast's horizon that are kept, in one or two questions to Redis."""
    made, request = forecast.provenance, forecast.request
    if made.origin == "uploaded":  # whatever else was sent under that name is another series
        return NOTHING
    return stores.klines.followed(
        request.symbol, request.interval, made.venue, made.origin, forecast.last_open_time_ms, request.horizon
    )


def realised(stores: Stores, forecast: Forecast, now_ms: int) -> Realised:
    """What has become of a forecast by `now_ms` (UTC ms), and which forecasts stand before and after it."""
    statuses, beside = stores.klines.statuses_question(), stores.forecasts.neighbours_question(forecast)
    answers = stores.ask(statuses, beside)
    name = (forecast.request.symbol, forecast.request.interval)
    series = next((one for one in answers[statuses] if (one.symbol, one.interval) == name), None)
    followed = followed_candles(stores, forecast)
    closed = _closed(forecast, followed, series, now_ms)
    why = _why(forecast, followed, series, closed)
    closes = dict(zip(steps_of(forecast, followed).tolist(), followed.values[:, CLOSE].tolist(), strict=True))
    return Realised(closed, followed, why, closes, compare(forecast, followed), answers[beside], series)


def steps_of(forecast: Forecast, followed: Followed) -> NDArray[np.int64]:
    """The step of each candle, from 1."""
    return (followed.open_times_ms - forecast.last_open_time_ms) // forecast.request.interval.ms


def compare(forecast: Forecast, followed: Followed) -> Comparison | None:
    """None where no candle is kept."""
    if not len(followed):
        return None
    steps, closes, last_close = steps_of(forecast, followed), followed.values[:, CLOSE], forecast.last_close
    errors = (_at(forecast.close.median, steps) - closes) / last_close
    step, close = int(steps[-1]), float(closes[-1])
    return Comparison(
        step=step,
        close=close,
        change=close / last_close - 1,
        median_error=float(errors[-1]),
        mean_absolute_error=float(np.abs(errors).mean()),
        bands=[
            BandCount(
                level=band.level,
                kind=band.kind,
                inside=int(((_at(band.lower, steps) <= closes) & (closes <= _at(band.upper, steps))).sum()),
                of=len(closes),
            )
            for band in sorted(forecast.close.bands, key=lambda band: band.level)
        ],
        ended_above=close > last_close if step == forecast.request.horizon else None,
        upside=forecast.upside.value,
    )


def _at(values: list[float], steps: NDArray[np.int64]) -> Floats:
    return np.array(values, dtype=np.float64)[steps - 1]


def _closed(forecast: Forecast, followed: Followed, series: SeriesStatus | None, now_ms: int) -> int:
    """How many candles of the horizon are over: by the clock, or, since a recording's clock stands still, by its end."""
    kept = int(steps_of(forecast, followed)[-1]) if len(followed) else 0
    match forecast.provenance.origin:
        case "uploaded":
            over = 0
        case "recorded":
            over = _steps_until(forecast, _newest(series)) if series and series.origin == "recorded" else 0
        case _:
            over = _steps_until(forecast, now_ms - forecast.request.interval.ms)
    return max(kept, over)


def _newest(series: SeriesStatus) -> int:
    return series.last_open_time_ms or 0


def _steps_until(forecast: Forecast, at_ms: int) -> int:
    """How many candles of the horizon have opened by then."""
    passed = (at_ms - forecast.last_open_time_ms) // forecast.request.interval.ms
    return min(max(passed, 0), forecast.request.horizon)


def _why(forecast: Forecast, followed: Followed, series: SeriesStatus | None, closed: int) -> list[Saying]:
    """In a sentence, why fewer candles are there than have closed; nothing where all are."""
    made, kept = forecast.provenance, len(followed)
    if made.origin == "uploaded":
        return [Saying("then.uploaded")]
    if kept == closed:
        return []
    counts = {"kept": kept, "closed": closed, "missing": closed - kept}
    if series and series.origin and (series.venue, series.origin) != (made.venue, made.origin):
        venues = {"made": made.venue.capitalize(), "now": (series.venue or series.origin).capitalize()}
        return [Saying("then.other_venue", {**counts, **venues})]
    last_kept = int(steps_of(forecast, followed)[-1]) if kept else 0
    brought = _steps_until(forecast, _newest(series)) if series else 0
    if kept == last_kept >= brought:  # what is missing is what ingest has not brought
        return [Saying("then.not_fetched", counts)]
    return [Saying("then.kept" if kept else "then.none_kept", counts)]
