"""What then happened, as the page and the API tell it: what `shared/outcome.py` finds, why not all of it is there, and which
forecasts stand beside. Knows no HTTP.
"""

from __future__ import annotations

from dataclasses import dataclass

from services.web.languages import Saying
from services.web.situation import Stores
from shared.forecast_store import Neighbours
from shared.forecasts import Forecast
from shared.kline_store import Followed, SeriesStatus
from shared.klines import CLOSE
from shared.outcome import Comparison, closed_steps, compare, followed_candles, newest_candle, steps_of, steps_until


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


def realised(stores: Stores, forecast: Forecast, now_ms: int) -> Realised:
    """What has become of a forecast by `now_ms` (UTC ms), and which forecasts stand before and after it."""
    statuses, beside = stores.klines.statuses_question(), stores.forecasts.neighbours_question(forecast)
    answers = stores.ask(statuses, beside)
    name = (forecast.request.symbol, forecast.request.interval)
    series = next((one for one in answers[statuses] if (one.symbol, one.interval) == name), None)
    followed = followed_candles(stores.klines, forecast)
    closed = closed_steps(forecast, followed, series, now_ms)
    why = _why(forecast, followed, series, closed)
    closes = dict(zip(steps_of(forecast, followed).tolist(), followed.values[:, CLOSE].tolist(), strict=True))
    return Realised(closed, followed, why, closes, compare(forecast, followed), answers[beside], series)


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
    brought = steps_until(forecast, newest_candle(series)) if series else 0
    if kept == last_kept >= brought:  # what is missing is what ingest has not brought
        return [Saying("then.not_fetched", counts)]
    return [Saying("then.kept" if kept else "then.none_kept", counts)]
