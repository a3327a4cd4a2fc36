"""Which forecasts of the schedule have closed and wait to be scored, and whether anything does: what ingest asks before it
enqueues their scoring, and what the scorekeeper works through.
"""

from __future__ import annotations

from collections.abc import Iterator

from shared.errors import NotFoundError
from shared.forecast_store import ForecastStore
from shared.forecasts import Forecast
from shared.klines import Interval, KlineWindow, Origin

# A venue that has gone away may come back and tell what happened; after this long nobody waits for it any more.
LONGEST_WAIT_MS = 7 * 86_400_000


def is_any_due(forecasts: ForecastStore, window: KlineWindow) -> bool:
    """Whether the newest window of a series brings what a forecast of ours, or an imported one, waits for to be scored."""
    symbol, interval, until_ms = window.symbol, window.interval, window.last_close_time_ms
    if next(due_forecasts(forecasts, symbol, interval, window.origin, until_ms), None):
        return True
    return window.origin == "live" and forecasts.imported.is_due(symbol, interval, until_ms)


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
