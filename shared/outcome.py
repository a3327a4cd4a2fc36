"""What followed a forecast, beside what it had said: the candles of its own venue and origin that are kept, and its scores.

Looks at one forecast, so it says nothing of how often its kind is right.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from shared.contract import Contract
from shared.forecasts import Band, Forecast
from shared.kline_store import Followed, KlineStore, SeriesStatus
from shared.klines import CLOSE, COLUMNS, Interval, Origin
from shared.ledger import LedgerEntry
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
    recalibrated_bands: list[BandCount] = Field(description="none where the forecast was not recalibrated")
    ended_above: bool | None = Field(
        description="whether the close of the last step lies above the last known one; none until that is kept"
    )
    upside: float = Field(description="the probability that the forecast had given to that")


class Outcome(Contract):
    """What has followed a forecast: one forecast, no track record."""

    id: str
    horizon: int = Field(description="candles that were forecast")
    closed: int = Field(
        description="how many of them have closed by now; 0 of uploaded candles, which nobody continues"
    )
    columns: list[str]
    steps: list[int] = Field(description="the steps whose candles are kept, from 1, ascending; there may be gaps")
    open_times_ms: list[int] = Field(description="open times of those candles, UTC ms")
    candles: list[list[float]] = Field(
        description="[steps][columns]: as the venue of the forecast's own klines has told them, no other"
    )
    comparison: Comparison | None = Field(description="none where no candle is kept")
    entry: LedgerEntry | None = Field(
        description="its entry in the ledger, with its scores: none before it was scored, and of what people asked for"
    )


def outcome_of(forecast: Forecast, followed: Followed, closed: int, entry: LedgerEntry | None) -> Outcome:
    return Outcome(
        id=forecast.id,
        horizon=forecast.request.horizon,
        closed=closed,
        columns=list(COLUMNS),
        steps=steps_of(forecast, followed).tolist(),
        open_times_ms=followed.open_times_ms.tolist(),
        candles=followed.values.tolist(),
        comparison=compare(forecast, followed),
        entry=entry,
    )


def ledger_of(forecast: Forecast) -> tuple[str, Interval, Origin]:
    """Where its entry would be: symbol, interval and origin."""
    return forecast.request.symbol, forecast.request.interval, forecast.provenance.origin


def followed_candles(klines: KlineStore, forecast: Forecast) -> Followed:
    """The candles of the forecast's horizon that are kept, in one or two questions to Redis."""
    made, request = forecast.provenance, forecast.request
    if made.origin == "uploaded":  # whatever else was sent under that name is another series
        return NOTHING
    return klines.followed(
        request.symbol, request.interval, made.venue, made.origin, forecast.last_open_time_ms, request.horizon
    )


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
    beside = forecast.recalibrated.bands if forecast.recalibrated else []
    return Comparison(
        step=step,
        close=close,
        change=close / last_close - 1,
        median_error=float(errors[-1]),
        mean_absolute_error=float(np.abs(errors).mean()),
        bands=_counts(forecast.close.bands, steps, closes),
        recalibrated_bands=_counts(beside, steps, closes),
        ended_above=close > last_close if step == forecast.request.horizon else None,
        upside=forecast.upside.value,
    )


def _counts(bands: Sequence[Band], steps: NDArray[np.int64], closes: Floats) -> list[BandCount]:
    """The narrowest first."""
    return [
        BandCount(
            level=band.level,
            kind=band.kind,
            inside=int(((_at(band.lower, steps) <= closes) & (closes <= _at(band.upper, steps))).sum()),
            of=len(closes),
        )
        for band in sorted(bands, key=lambda band: band.level)
    ]


def _at(values: list[float], steps: NDArray[np.int64]) -> Floats:
    return np.array(values, dtype=np.float64)[steps - 1]


def closed_steps(forecast: Forecast, followed: Followed, series: SeriesStatus | None, now_ms: int) -> int:
    """How many candles of the horizon are over: by the clock, or, since a recording's clock stands still, by its end."""
    kept = int(steps_of(forecast, followed)[-1]) if len(followed) else 0
    match forecast.provenance.origin:
        case "uploaded":
            over = 0
        case "recorded":
            over = steps_until(forecast, newest_candle(series)) if series and series.origin == "recorded" else 0
        case _:
            over = steps_until(forecast, now_ms - forecast.request.interval.ms)
    return max(kept, over)


def newest_candle(series: SeriesStatus) -> int:
    """Its open time, UTC ms; 0 where there is none yet."""
    return series.last_open_time_ms or 0


def steps_until(forecast: Forecast, at_ms: int) -> int:
    """How many candles of the horizon have opened by then."""
    passed = (at_ms - forecast.last_open_time_ms) // forecast.request.interval.ms
    return min(max(passed, 0), forecast.request.horizon)
