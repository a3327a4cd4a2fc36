"""OKX's candles: newest first, closed ones marked, symbols with a dash, older pages at another address."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import httpx

from services.ingest.venues.http import Answer, VenueHttp
from services.ingest.venues.venue import FetchedKlines, Rows, closed_klines, page_back, read_rows, read_symbols
from shared.errors import UnknownSymbolError, VenueError
from shared.klines import Interval

PAGE = 300
UNKNOWN_INSTRUMENT = "51001"
TOO_MANY_REQUESTS = "50011"
REST_S = 2.0  # OKX counts requests over two seconds
# open, high, low, close, volume, volCcyQuote, confirm; the open time stands first
CELLS = (1, 2, 3, 4, 5, 7, 8)
CONFIRM = 6
# From six hours up, OKX's plain bars begin at midnight in Hong Kong; those with utc in their name do not.
BARS = {
    Interval.H1: "1H",
    Interval.H2: "2H",
    Interval.H4: "4H",
    Interval.H6: "6Hutc",
    Interval.H12: "12Hutc",
    Interval.D1: "1Dutc",
}
# What symbols are paid in, so that BTCUSDT can be told apart into BTC-USDT; longer names before their tails.
QUOTES = (
    *("FDUSD", "USDT", "USDC", "BUSD", "TUSD"),
    *("USD", "EUR", "GBP", "TRY", "BRL", "AUD", "JPY", "DAI", "BTC", "ETH", "BNB"),
)


class Okx:
    name = "okx"
    page = PAGE

    def __init__(self, base_url: str, client: httpx.Client) -> None:
        self._http = VenueHttp(self.name, base_url, client)
        self.source = self._http.source

    def fetch(self, symbol: str, interval: Interval, count: int) -> FetchedKlines:
        """The last `count` candles that OKX marks as closed. Raises VenueError."""
        question = self._question(symbol, interval)
        wanted = count + 1  # the open candle comes along
        answer = self._ask("candles", {**question, "limit": min(wanted, PAGE)}, symbol)
        now_ms = self._time(answer)
        rows = page_back(
            self._rows(answer),
            lambda before_ms, at_most: self._rows(
                self._ask("history-candles", {**question, "limit": min(at_most, PAGE), "after": before_ms}, symbol)
            ),
            wanted,
        )
        return closed_klines(self.name, now_ms, rows, rows.cells[:, CONFIRM] == 1, count)

    def between(self, symbol: str, interval: Interval, from_ms: int, until_ms: int) -> FetchedKlines:
        """A stretch of the past; asked for page by page, since OKX has answered with fewer than PAGE. Raises VenueError."""
        question = {**self._question(symbol, interval), "before": from_ms - 1, "limit": PAGE}
        newest = self._ask("history-candles", {**question, "after": until_ms}, symbol)
        rows = page_back(
            self._rows(newest),
            lambda before_ms, _: self._rows(self._ask("history-candles", {**question, "after": before_ms}, symbol)),
            (until_ms - from_ms) // interval.ms,
        )
        return closed_klines(self.name, self._time(newest), rows, rows.cells[:, CONFIRM] == 1, PAGE)

    def symbols(self) -> frozenset[str]:
        """All that is traded there on the spot and can be asked for by a symbol without a dash. Raises VenueError."""
        answer = self._http.get("/api/v5/public/instruments", {"instType": "SPOT"})
        self._refuse(answer)
        return read_symbols(self.source, answer.members().get("data"), self._symbol)

    def _question(self, symbol: str, interval: Interval) -> dict[str, str | int]:
        return {"instId": self._instrument(symbol), "bar": BARS.get(interval, str(interval))}

    def _time(self, answer: Answer) -> int:
        if answer.date_ms is None:
            raise VenueError(f"{self.source} does not tell its time, so the candle that is due cannot be known.")
        return answer.date_ms

    def _symbol(self, entry: dict[str, Any]) -> str | None:
        instrument = str(entry.get("instId"))
        symbol = instrument.replace("-", "")
        with suppress(UnknownSymbolError):
            if entry.get("state") == "live" and self._instrument(symbol) == instrument:
                return symbol
        return None

    def _instrument(self, symbol: str) -> str:
        for quote in QUOTES:
            if symbol.endswith(quote) and symbol != quote:
                return f"{symbol.removesuffix(quote)}-{quote}"
        raise UnknownSymbolError(
            f"{self.source} needs to know what {symbol} is paid in, and it ends in no known quote."
        )

    def _ask(self, endpoint: str, question: dict[str, str | int], symbol: str) -> Answer:
        answer = self._http.get(f"/api/v5/market/{endpoint}", question)
        if answer.members().get("code") == UNKNOWN_INSTRUMENT:
            raise UnknownSymbolError(f"{self.source} knows no symbol {symbol} ({question['instId']} there).")
        self._refuse(answer)
        return answer

    def _refuse(self, answer: Answer) -> None:
        content = answer.members()
        code = content.get("code")
        if code != "0":
            rest = REST_S if code == TOO_MANY_REQUESTS else None
            raise VenueError(
                f"{self.source} refused the question: {content.get('msg')} (code {code}).", retry_after_s=rest
            )

    def _rows(self, answer: Answer) -> Rows:
        data = answer.members().get("data")
        return read_rows(self.source, data[::-1] if isinstance(data, list) else data, CELLS)
