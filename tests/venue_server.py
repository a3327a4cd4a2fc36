"""A market venue to test against: a real HTTP server that speaks Binance's, OKX's and Bybit's kline protocols.

It serves real rows where ../shared/klines exists, moved in time by whole weeks so that the candle due now is among them
and hours and weekdays stay what they were; where that folder or the file is absent it serves simulated ones. The last row
of an answer is the candle still open, which differs from what it will be when it has closed. Prices are strings.

Faults are programmed: `server.fail("429", times=2, retry_after=3)` here, `PUT /_fault?kind=429&times=2&retry_after=3`
from another process, and they hold for the klines of every protocol, not for what it says of its time and of what it trades.

    python -m tests.venue_server --port 9999 [--klines FILE.csv.gz] [--interval 1h] [--symbol BTCUSDT]
"""

from __future__ import annotations

import argparse
import csv
import gzip
import json
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from email.utils import formatdate
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import numpy as np
from numpy.typing import NDArray

from services.ingest.venues.simulated import simulated_values
from shared.klines import Interval
from tests.conftest import KLINES

WEEK_MS = 7 * 86_400_000
AHEAD_MS = 4 * WEEK_MS  # candles kept for the time that passes while the server runs
NEWEST = 5000  # rows of a file that are read: more than the longest history and AHEAD_MS of hours together
SYMBOLS = ("BTCUSDT", "ETHUSDT", "SOLUSDT")
STATUS_FAULTS = {"429": 429, "418": 418, "451": 451, "403": 403, "500": 500}
# Each changes rows: missing, duplicate and so on at `back` candles before the one that is due; lag leaves out that one.
ROW_FAULTS = ("missing", "duplicate", "conflict", "disorder", "non_finite", "inconsistent", "revised", "lag")
OTHER_FAULTS = ("cut", "garbage", "shape", "slow", "no_date")

Row = list[Any]  # open time in ms, open, high, low, close, volume, amount


@dataclass
class Fault:
    """What goes wrong with the next `times` answers; None for all until it is cleared."""

    kind: str
    times: int | None = 1
    retry_after: int | None = None
    back: int = 50
    seconds: float = 30.0


class Series:
    """The candles of one symbol and interval at any time: `values(first_open_ms, count)` gives (count, 6)."""

    def __init__(self, symbol: str, interval: Interval, file: Path | None, now_ms: int) -> None:
        self.interval = interval
        self.real = file is not None
        self._symbol = symbol
        if file is not None:
            times, self._real_values = _read(file)
            weeks = -(-(interval.open_time(now_ms) + AHEAD_MS - int(times[-1])) // WEEK_MS)
            self._real_times = times + weeks * WEEK_MS

    def rows(self, first_ms: int, last_ms: int) -> list[Row]:
        """Candles that open between two moments, both included."""
        if self.real:
            chosen = (self._real_times >= first_ms) & (self._real_times <= last_ms)
            times, values = self._real_times[chosen], self._real_values[chosen]
        else:
            first = self.interval.open_time(first_ms + self.interval.ms - 1)
            times = np.arange(first, last_ms + 1, self.interval.ms, dtype=np.int64)
            values = simulated_values(self._symbol, self.interval, first, len(times))
        return [[time, *row] for time, row in zip(times.tolist(), values.tolist(), strict=True)]


class VenueServer:
    """A venue on a free port of loopback, in a thread of its own, from `with` to its end. `now_ms` is its clock."""

    def __init__(
        self,
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
        *,
        port: int = 0,
        host: str = "127.0.0.1",
        files: dict[tuple[str, Interval], Path] | None = None,
        real: bool = True,
        symbols: Sequence[str] = SYMBOLS,
    ) -> None:
        self.now_ms = now_ms
        self.faults: list[Fault] = []
        self.asked: list[tuple[str, dict[str, str]]] = []
        self.symbols = symbols
        self.tells_symbols = True
        self.okx_history_page = 300  # it has been 100, whatever limit was asked for
        self._files = files or {}
        self._real = real
        self._series: dict[tuple[str, Interval], Series] = {}
        self._lock = threading.Lock()
        self._http = _Listener((host, port), self)
        self.url = f"http://{host}:{self._http.server_address[1]}"

    def __enter__(self) -> VenueServer:
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    def fail(self, kind: str, **how: Any) -> None:
        """Programme a fault behind those already waiting."""
        if kind not in (*STATUS_FAULTS, *ROW_FAULTS, *OTHER_FAULTS):
            raise ValueError(f"no fault is called {kind}")
        self.faults.append(Fault(kind, **how))

    def next_fault(self) -> Fault | None:
        with self._lock:
            if not self.faults:
                return None
            fault = self.faults[0]
            if fault.times is not None:
                fault.times -= 1
                if fault.times <= 0:
                    self.faults.pop(0)
            return fault

    def series(self, symbol: str, interval: Interval) -> Series | None:
        """None where the venue does not trade the symbol."""
        with self._lock:
            known = self._series.get((symbol, interval))
            if known is None and (symbol in self.symbols or (symbol, interval) in self._files):
                known = Series(symbol, interval, self._file(symbol, interval), self.now_ms())
                self._series[symbol, interval] = known
            return known

    def _file(self, symbol: str, interval: Interval) -> Path | None:
        if (symbol, interval) in self._files:
            return self._files[symbol, interval]
        file = KLINES / f"{symbol}-{interval}.csv.gz"
        return file if self._real and file.is_file() else None

    def candles(self, series: Series, fault: Fault | None, before_ms: int | None, limit: int) -> list[Row]:
        """The last `limit` rows that open before a moment, oldest first, the open candle last, faults built in."""
        now_ms, step = self.now_ms(), series.interval.ms
        last = min(series.interval.open_time(now_ms), (before_ms or now_ms + 1) - 1)
        rows = series.rows(last - (limit + 5) * step, last)
        if rows and rows[-1][0] + step > now_ms:
            rows[-1] = _still_open(rows[-1])
        if fault is not None and fault.kind in ROW_FAULTS:
            rows = _spoil(rows, fault, series.interval.open_time(now_ms) - step * (1 + fault.back), step)
        return rows[-limit:]


def _still_open(row: Row) -> Row:
    """The first minutes of a candle: half the way, a fraction of the volume."""
    at, opened, high, low, close, volume, amount = row
    so_far = (opened + close) / 2
    return [
        at,
        opened,
        (max(opened, so_far) + high) / 2,
        (min(opened, so_far) + low) / 2,
        so_far,
        volume / 7,
        amount / 7,
    ]


def _spoil(rows: list[Row], fault: Fault, at_ms: int, step: int) -> list[Row]:
    if fault.kind == "lag":
        return [row for row in rows if row[0] < at_ms + step * fault.back]
    spoilt: list[Row] = []
    for row in rows:
        if row[0] != at_ms:
            spoilt.append(row)
        elif fault.kind == "duplicate":
            spoilt += [row, row]
        elif fault.kind == "conflict":
            spoilt += [row, [*row[:4], row[4] * 1.0001, *row[5:]]]
        elif fault.kind == "disorder":
            spoilt.insert(-1, row)
        elif fault.kind == "non_finite":
            spoilt.append([*row[:4], float("nan"), *row[5:]])
        elif fault.kind == "inconsistent":
            spoilt.append([*row[:2], row[3], row[2], *row[4:]])  # high and low change places
        elif fault.kind == "revised":
            spoilt.append([*row[:4], (row[2] + row[3]) / 2, *row[5:]])  # another close, as good as the first
    return spoilt


@cache
def _read(file: Path) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    content = file.read_bytes()
    text = gzip.decompress(content) if file.suffix == ".gz" else content
    header, *lines = text.decode().splitlines()
    rows = list(csv.DictReader([header, *lines[-NEWEST:]]))
    times = np.array([int(row["open_time"]) for row in rows], dtype=np.int64)
    prices = np.array([[float(row[name]) for name in ("open", "high", "low", "close", "volume")] for row in rows])
    told = next((name for name in ("amount", "quote_volume") if name in rows[0]), None)
    amount = np.array([float(row[told]) for row in rows]) if told else prices[:, 4] * prices[:, :4].mean(axis=1)
    return times, np.column_stack([prices, amount])


def _binance_row(row: Row, step: int) -> Row:
    at, *cells = row
    opened, high, low, close, volume, amount = (f"{cell:.8f}" for cell in cells)
    return [at, opened, high, low, close, volume, at + step - 1, amount, 1000, volume, amount, "0"]


class _Listener(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128  # the library's 5 turn a crew away that comes while this process is busy

    def __init__(self, address: tuple[str, int], venue: VenueServer) -> None:
        super().__init__(address, _Handler)
        self.venue = venue


class _Handler(BaseHTTPRequestHandler):
    """The three protocols on one address; the paths tell them apart."""

    protocol_version = "HTTP/1.1"
    fault: Fault | None = None

    @property
    def venue(self) -> VenueServer:
        assert isinstance(self.server, _Listener)
        return self.server.venue

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        query = dict(parse_qsl(url.query))
        self.fault = None
        routes = {
            "/api/v3/time": lambda _: self._json({"serverTime": self.venue.now_ms()}),
            "/api/v3/klines": self._binance,
            "/api/v5/market/candles": self._okx,
            "/api/v5/market/history-candles": self._okx,
            "/v5/market/kline": self._bybit,
            **(self._listings() if self.venue.tells_symbols else {}),
        }
        if url.path not in routes:
            self._json({"msg": "no such endpoint"}, 404)
            return
        self.venue.asked.append((url.path, query))
        if url.path not in {"/api/v3/time", *self._listings()}:
            self.fault = self.venue.next_fault()
        if not self._broken():
            routes[url.path](query)

    def _listings(self) -> dict[str, Callable[[dict[str, str]], None]]:
        """What is traded, in the three protocols; the last of each is not traded any more, or not yet."""
        binance = [{"symbol": symbol, "status": "TRADING"} for symbol in self.venue.symbols]
        okx = [{"instId": symbol.replace("USDT", "-USDT"), "state": "live"} for symbol in self.venue.symbols]
        bybit = [{"symbol": symbol, "status": "Trading"} for symbol in self.venue.symbols]
        binance.append({"symbol": "GONEUSDT", "status": "BREAK"})
        okx.append({"instId": "GONE-USDT", "state": "suspend"})
        bybit.append({"symbol": "GONEUSDT", "status": "PreLaunch"})
        result = {"category": "spot", "list": bybit}
        return {
            "/api/v3/exchangeInfo": lambda _: self._json({"timezone": "UTC", "symbols": binance}),
            "/api/v5/public/instruments": lambda _: self._json({"code": "0", "msg": "", "data": okx}),
            "/v5/market/instruments-info": lambda _: self._json({"retCode": 0, "retMsg": "OK", "result": result}),
        }

    def do_PUT(self) -> None:
        how: dict[str, Any] = dict(parse_qsl(urlsplit(self.path).query))
        kind = how.pop("kind")
        if kind == "none":
            self.venue.faults.clear()
        else:
            numbers = {name: float(value) if name == "seconds" else int(value) for name, value in how.items()}
            self.venue.fail(kind, **numbers)
        self._json({})

    def _broken(self) -> bool:
        """True where the fault has already answered in the venue's stead."""
        fault = self.fault
        if fault is None:
            return False
        if fault.kind in STATUS_FAULTS:
            more = {} if fault.retry_after is None else {"Retry-After": str(fault.retry_after)}
            self._json({"code": -1003, "msg": "as programmed"}, STATUS_FAULTS[fault.kind], more)
        elif fault.kind == "cut":
            self._send(b'[[1735689600000,"9', 200, length=5000)
            self.close_connection = True
        elif fault.kind == "garbage":
            self._send(b"<html>welcome to our hotel network</html>", 200)
        elif fault.kind == "shape":
            self._json([[1735689600000, "94000.0"], "no row"])
        elif fault.kind == "slow":
            time.sleep(fault.seconds)
            return False
        else:
            return False
        return True

    def _binance(self, query: dict[str, str]) -> None:
        limit = int(query.get("limit", 500))
        interval = Interval(query["interval"])
        series = self.venue.series(query["symbol"], interval)
        if series is None:
            self._json({"code": -1121, "msg": "Invalid symbol."}, 400)
        elif not 1 <= limit <= 1000:
            self._json({"code": -1130, "msg": "Data sent for parameter 'limit' is not valid."}, 400)
        else:
            before = int(query["endTime"]) + 1 if "endTime" in query else None
            rows = self.venue.candles(series, self.fault, before, limit)
            rows = [row for row in rows if row[0] >= int(query.get("startTime", 0))]
            self._json([_binance_row(row, interval.ms) for row in rows], more={"X-MBX-USED-WEIGHT-1M": "2"})

    def _okx(self, query: dict[str, str]) -> None:
        bar = query["bar"].removesuffix("utc").lower() if query["bar"] not in ("6H", "12H", "1D") else "misaligned"
        series = self.venue.series(query["instId"].replace("-", ""), Interval(bar)) if "-" in query["instId"] else None
        if series is None:
            message = "Instrument ID, Instrument ID code, or Spread ID doesn't exist."
            self._json({"code": "51001", "data": [], "msg": message})
            return
        before = int(query["after"]) if "after" in query else None
        most = self.venue.okx_history_page if "history" in self.path else 300
        rows = self.venue.candles(series, self.fault, before, min(int(query.get("limit", 100)), most))
        rows = [row for row in rows if row[0] > int(query.get("before", -1))]
        data = [
            [str(cell) for cell in (*row[:6], row[6], row[6], int(row[0] + series.interval.ms <= self.venue.now_ms()))]
            for row in rows[::-1]
        ]
        self._json({"code": "0", "msg": "", "data": data})

    def _bybit(self, query: dict[str, str]) -> None:
        length = query["interval"]
        minutes = 1440 if length == "D" else int(length)
        interval = next(interval for interval in Interval if interval.ms == minutes * 60_000)
        series = self.venue.series(query["symbol"], interval)
        said = {"retExtInfo": {}, "time": self.venue.now_ms()}
        if series is None:
            self._json({"retCode": 10001, "retMsg": "Not supported symbols", "result": {}, **said})
            return
        before = int(query["end"]) + 1 if "end" in query else None
        rows = self.venue.candles(series, self.fault, before, min(int(query.get("limit", 200)), 1000))
        rows = [row for row in rows if row[0] >= int(query.get("start", 0))]
        listed = [[str(cell) for cell in row] for row in rows[::-1]]
        result = {"category": query["category"], "symbol": query["symbol"], "list": listed}
        self._json({"retCode": 0, "retMsg": "OK", "result": result, **said})

    def _json(self, content: object, status: int = 200, more: dict[str, str] | None = None) -> None:
        self._send(json.dumps(content).encode(), status, more)

    def _send(self, body: bytes, status: int, more: dict[str, str] | None = None, *, length: int | None = None) -> None:
        self.send_response_only(status)
        if self.fault is None or self.fault.kind != "no_date":
            self.send_header("Date", formatdate(self.venue.now_ms() // 1000, usegmt=True))
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body) if length is None else length))
        for name, value in (more or {}).items():
            self.send_header(name, value)
        self.end_headers()
        try:
            self.wfile.write(body)
        except OSError:
            self.close_connection = True  # whoever asked has given up

    def log_message(self, format: str, *args: Any) -> None:
        pass


def main() -> None:
    parser = argparse.ArgumentParser(description="A market venue to test against, until Ctrl+C.")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--klines", type=Path, help="a CSV file (or .csv.gz) with the candles of one series")
    parser.add_argument("--symbol", default="BTCUSDT", help="whose candles --klines holds")
    parser.add_argument("--interval", default="1h", type=Interval, help="how long they are")
    chosen = parser.parse_args()
    files = {(chosen.symbol, chosen.interval): chosen.klines} if chosen.klines else {}
    with VenueServer(port=chosen.port, host=chosen.host, files=files) as server:
        series = server.series(chosen.symbol, chosen.interval)
        print(f"{server.url} serves {'real' if series and series.real else 'simulated'} klines", flush=True)
        threading.Event().wait()


if __name__ == "__main__":
    main()
