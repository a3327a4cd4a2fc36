"""Binance's klines, from any address that speaks its protocol.

The last row is the candle still open, without a mark: the close time that each row carries is held against the
venue's own time.
"""

from __future__ import annotations

from typing import Any

import httpx

from services.ingest.venues.http import Answer, VenueHttp
from services.ingest.venues.venue import FetchedKlines, Rows, closed_klines, is_time, page_back, read_rows, read_symbols
from shared.errors import UnknownSymbolError, VenueError
from shared.klines import Interval

PAGE = 1000
UNKNOWN_SYMBOL = -1121
# open, high, low, close, volume, quote volume, close time; the open time stands first
CELLS = (1, 2, 3, 4, 5, 7, 6)
CLOSE_TIME = 6


class Binance:
    name = "binance"
    page = PAGE

    def __init__(self, base_url: str, client: httpx.Client) -> None:
        self._http = VenueHttp(self.name, base_url, client)
        self.source = self._http.source

    def fetch(self, symbol: str, interval: Interval, count: int) -> FetchedKlines:
        """The last `count` closed candles by Binance's time. Raises VenueError."""
        wanted = count + 1  # the open candle comes along
        answer = self._ask(symbol, interval, wanted)
        now_ms = self._time(answer)
        rows = page_back(
            self._rows(answer),
            lambda before_ms, at_most: self._rows(self._ask(symbol, interval, at_most, endTime=before_ms - 1)),
            wanted,
        )
        return closed_klines(self.name, now_ms, rows, rows.cells[:, CLOSE_TIME] < now_ms, count)

    def between(self, symbol: str, interval: Interval, from_ms: int, until_ms: int) -> FetchedKlines:
        """One page of the past, by Binance's time. Raises VenueError."""
        answer = self._ask(symbol, interval, PAGE, startTime=from_ms, endTime=until_ms - 1)
        now_ms, rows = self._time(answer), self._rows(answer)
        return closed_klines(self.name, now_ms, rows, rows.cells[:, CLOSE_TIME] < now_ms, PAGE)

    def symbols(self) -> frozenset[str]:
        """All that is traded there on the spot. Raises VenueError."""
        content = self._http.get("/api/v3/exchangeInfo", {"symbolStatus": "TRADING", "showPermissionSets": "false"})
        self._refuse_code(content.members())
        return read_symbols(
            self.source,
            content.members().get("symbols"),
            lambda entry: entry.get("symbol") if entry.get("status") == "TRADING" else None,
        )

    def _ask(self, symbol: str, interval: Interval, at_most: int, **more: int) -> Answer:
        limit = min(at_most, PAGE)
        answer = self._http.get("/api/v3/klines", {"symbol": symbol, "interval": str(interval), "limit": limit, **more})
        self._refuse(answer.content, symbol)
        return answer

    def _rows(self, answer: Answer) -> Rows:
        return read_rows(self.source, answer.content, CELLS)

    def _time(self, answer: Answer) -> int:
        return answer.date_ms or self._server_time()

    def _server_time(self) -> int:
        content = self._http.get("/api/v3/time", {}).content
        if not isinstance(content, dict) or not is_time(content.get("serverTime")):
            raise VenueError(f"{self.source} does not tell its time, so its closed candles cannot be known.")
        return int(content["serverTime"])

    def _refuse(self, content: Any, symbol: str) -> None:
        if not isinstance(content, dict):
            return
        if content.get("code") == UNKNOWN_SYMBOL:
            raise UnknownSymbolError(f"{self.source} knows no symbol {symbol}.")
        self._refuse_code({"code": None, **content})

    def _refuse_code(self, content: dict[str, Any]) -> None:
        if "code" in content:
            raise VenueError(f"{self.source} refused the question: {content.get('msg')} (code {content['code']}).")
