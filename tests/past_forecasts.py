"""A series that goes on after a forecast was made, as ingest would have brought it, candle by candle."""

from __future__ import annotations

from dataclasses import dataclass, field

from services.web.situation import Stores
from shared.forecasts import Forecast
from shared.kline_store import SeriesStatus
from shared.klines import KlineWindow, Origin
from tests.builders import kline_window
from tests.web_server import HOUR_MS, forecast_stored, newest_closed_candle

LONGEST_WINDOW = 400


@dataclass
class Market:
    """One long history that ends with the newest closed candle; hours are counted back from there."""

    stores: Stores
    origin: Origin = "live"
    venue: str = "binance"
    history: KlineWindow = field(init=False)

    def __post_init__(self) -> None:
        start_ms = newest_closed_candle() - 599 * HOUR_MS
        self.history = kline_window(600, venue=self.venue, origin=self.origin, start_ms=start_ms)

    def window(self, hours_ago: int, *, candles: int = LONGEST_WINDOW) -> KlineWindow:
        """As it was fetched so many hours ago."""
        end = len(self.history) - hours_ago
        rows = slice(max(0, end - candles), end)
        of = self.history
        return KlineWindow(of.symbol, of.interval, of.venue, of.origin, of.open_times_ms[rows], of.values[rows])

    def ingest(self, hours_ago: int, *, candles: int = LONGEST_WINDOW) -> KlineWindow:
        """Store the snapshot of that time, and the series' state as ingest says it then."""
        window = self.window(hours_ago, candles=candles)
        last = window.last_open_time_ms
        status = SeriesStatus(
            symbol=window.symbol,
            interval=window.interval,
            state=self.origin,  # type: ignore[arg-type]
            venue=self.venue,
            origin=self.origin,
            snapshot_id=self.stores.klines.save(window),
            last_open_time_ms=last,
            checked_at_ms=last + HOUR_MS + 5_000,
            next_fetch_at_ms=newest_closed_candle() + 2 * HOUR_MS + 5_000,
            problem=None,
            ever_live=self.origin == "live",
        )
        self.stores.klines.change_status(window.symbol, window.interval, lambda _: status)
        return window

    def forecast(self, hours_ago: int, *, forecast_id: str | None = None) -> Forecast:
        """What was ingested at that time, and the forecast that was made on it."""
        return forecast_stored(self.stores, self.ingest(hours_ago), forecast_id=forecast_id)
