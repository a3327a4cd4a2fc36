"""Bybit's spot klines: newest first, closed ones not marked, its time in every answer, refusals in a 200."""

from __future__ import annotations

import httpx

from services.ingest.venues.http import Answer, VenueHttp
from services.ingest.venues.venue import FetchedKlines, Rows, closed_klines, is_time, page_back, read_rows, read_symbols
from shared.errors import UnknownSymbolError, VenueError
from shared.klines import Interval

PAGE = 1000
BAD_PARAMETER = 10001
TOO_MANY_VISITS = 10006
REST_S = 5.0  # Bybit counts requests over five seconds
CELLS = (1, 2, 3, 4, 5, 6)  # open, high, low, close, volume, turnover; the open time stands first


class Bybit:
    name = "bybit"
    page = PAGE

    def __init__(self, base_url: str, client: httpx.Client) -> None:
        self._http = VenueHttp(self.name, base_url, client)
        self.source = self._http.source

    def fetch(self, symbol: str, interval: Interval, count: int) -> FetchedKlines:
        """The last `count` candles that had closed by the time in Bybit's answer. Raises VenueError."""
        wanted = count + 1  # the open candle comes along
        answer = self._ask(symbol, interval, wanted)
        now_ms = self._time(answer)
        rows = page_back(
            self._rows(answer),
            lambda before_ms, at_most: self._rows(self._ask(symbol, interval, at_most, end=before_ms - 1)),
            wanted,
        )
        return closed_klines(self.name, now_ms, rows, rows.open_times_ms + interval.ms <= now_ms, count)

    def between(self, symbol: str, interval: Interval, from_ms: int, until_ms: int) -> FetchedKlines:
        """One page of the past, by the time in Bybit's answer. Raises VenueError."""
        answer = self._ask(symbol, interval, PAGE, start=from_ms, end=until_ms - 1)
        now_ms, rows = self._time(answer), self._rows(answer)
        return closed_klines(self.name, now_ms, rows, rows.open_times_ms + interval.ms <= now_ms, PAGE)

    def symbols(self) -> frozenset[str]:
        """All that is traded there on the spot, which comes on one page. Raises VenueError."""
        answer = self._http.get("/v5/market/instruments-info", {"category": "spot"})
        self._refuse(answer)
        result = answer.members().get("result")
        entries = result.get("list") if isinstance(result, dict) else None
        return read_symbols(
            self.source, entries, lambda entry: entry.get("symbol") if entry.get("status") == "Trading" else None
        )

    def _ask(self, symbol: str, interval: Interval, at_most: int, **more: int) -> Answer:
        length = "D" if interval is Interval.D1 else interval.ms // 60_000
        question = {"category": "spot", "symbol": symbol, "interval": length, "limit": min(at_most, PAGE), **more}
        answer = self._http.get("/v5/market/kline", question)
        content = answer.members()
        code, message = content.get("retCode"), str(content.get("retMsg"))
        if code == BAD_PARAMETER and "symbol" in message.lower():
            raise UnknownSymbolError(f"{self.source} knows no symbol {symbol}.")
        self._refuse(answer)
        return answer

    def _refuse(self, answer: Answer) -> None:
        content = answer.members()
        code, message = content.get("retCode"), str(content.get("retMsg"))
        if code != 0:
            rest = REST_S if code == TOO_MANY_VISITS else None
            raise VenueError(f"{self.source} refused the question: {message} (code {code}).", retry_after_s=rest)

    def _time(self, answer: Answer) -> int:
        told = answer.members().get("time")
        now_ms = told if isinstance(told, int) and is_time(told) else answer.date_ms
        if now_ms is None:
            raise VenueError(f"{self.source} does not tell its time, so its closed candles cannot be known.")
        return now_ms

    def _rows(self, answer: Answer) -> Rows:
        result = answer.members().get("result")
        rows = result.get("list") if isinstance(result, dict) else None
        return read_rows(self.source, rows[::-1] if isinstance(rows, list) else rows, CELLS)
