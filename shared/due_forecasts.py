"""Which forecasts of the schedule have closed and wait to be scored: what ingest asks before it enqueues their scoring, and
what the scorekeeper works through.
"""

from __future__ import annotations

from collections.abc import Iterator

from shared.errors import NotFoundError
from shared.forecast_store import ForecastStore
from shared.forecasts import Forecast
from shared.klines import Interval, Origin


def due_forecasts(
    forecasts: ForecastStore, symbol: str, interval: Interval, origin: Origin, now_ms: int
) -> Iterator[Forecast]:
    """Those whose last candle has closed by `now_ms` (UTC ms) and that have no entry in the ledger, oldest first."""
    known = forecasts.scheduled_ids(symbol, interval, origin)
    for forecast_id in forecasts.ledger.missing(symbol, interval, origin, known):
        try:
            forecast = forecasts.load(forecast_id)
        except NotFoundError:  # retention was faster, or another version wrote it
            continue
        if forecast.open_times_ms[-1] + interval.ms <= now_ms:
            yield forecast
