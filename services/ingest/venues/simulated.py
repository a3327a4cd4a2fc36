"""A venue that makes klines up, for where there is no other: every candle depends on symbol, interval and time alone.

So history stays the same over restarts, and successive windows agree where they overlap. The log price is a random walk
with clustered volatility within blocks of BLOCK candles; each block is tilted to meet anchors drawn for its two ends, so
the price stays near its base for ever. It resembles no market closely, and whoever shows it must say so.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from services.ingest.venues.venue import FetchedKlines
from shared.klines import Interval

BLOCK = 1024
DAILY_VOLATILITY = 0.025  # std of a day's log return
CLUSTERING, CLUSTER_STEP = 0.97, 0.1  # log volatility follows an AR(1) of this memory and these shocks
BASE_PRICES = {"BTC": 60_000.0, "ETH": 3_000.0, "BNB": 600.0, "SOL": 150.0}
OTHER_BASE_PRICE = 100.0
TURNOVER_PER_DAY = 1e9  # in the quote currency
SIGNIFICANT_DIGITS = 6


class Simulated:
    name = "simulated"
    source = "simulated"

    def __init__(self, now_ms: Callable[[], int]) -> None:
        self._now_ms = now_ms

    def fetch(self, symbol: str, interval: Interval, count: int) -> FetchedKlines:
        """The last `count` candles that would have closed by now."""
        now_ms = self._now_ms()
        times = interval.open_time(now_ms) - interval.ms * np.arange(count, 0, -1, dtype=np.int64)
        return FetchedKlines(
            self.name, "simulated", now_ms, times, simulated_values(symbol, interval, int(times[0]), count)
        )


def simulated_values(symbol: str, interval: Interval, first_open_ms: int, count: int) -> NDArray[np.float64]:
    """`count` candles from the one that opens at `first_open_ms` (UTC ms) on: (count, 6) in the order of COLUMNS."""
    first = first_open_ms // interval.ms
    blocks = range(first // BLOCK, (first + count - 1) // BLOCK + 1)
    values = np.concatenate([_block(symbol, interval, number) for number in blocks])
    return values[first % BLOCK :][:count]


def _block(symbol: str, interval: Interval, number: int) -> NDArray[np.float64]:
    """All candles of one block, (BLOCK, 6)."""
    rng = _generator(symbol, interval, "walk", number)
    days = interval.ms / 86_400_000
    volatility = DAILY_VOLATILITY * np.sqrt(days) * np.exp(_clusters(rng))
    walk = np.cumsum(rng.normal(0, volatility))
    start, end = (_anchor(symbol, interval, edge) for edge in (number, number + 1))
    tilt = (end - start - walk[-1]) * np.arange(1, BLOCK + 1) / BLOCK
    log_close = start + walk + tilt
    log_open = np.concatenate([[start], log_close[:-1]])
    reach = np.abs(rng.normal(0, 0.5 * volatility, (2, BLOCK)))  # how far each candle goes beyond open and close
    log_prices = np.stack(
        [log_open, np.maximum(log_open, log_close) + reach[0], np.minimum(log_open, log_close) - reach[1], log_close]
    )
    base = next((price for coin, price in BASE_PRICES.items() if symbol.startswith(coin)), OTHER_BASE_PRICE)
    prices = np.round(base * np.exp(log_prices), SIGNIFICANT_DIGITS - len(str(int(base))))
    busy = np.abs(log_close - log_open) / volatility  # candles that move trade more
    amount = TURNOVER_PER_DAY * days * np.exp(rng.normal(-0.5, 0.4, BLOCK) + 0.4 * busy)
    volume = amount / prices.mean(axis=0)
    return np.vstack([prices, volume, amount]).T


def _clusters(rng: np.random.Generator) -> NDArray[np.float64]:
    """Log of the volatility around its mean, (BLOCK,): calm and wild times last for a while."""
    levels = np.empty(BLOCK)
    level = 0.0
    for i, shock in enumerate(rng.normal(0, CLUSTER_STEP, BLOCK)):
        level = CLUSTERING * level + shock
        levels[i] = level
    return levels


def _anchor(symbol: str, interval: Interval, edge: int) -> float:
    """Log price, relative to the base, where block `edge` begins; as wide as a block's own walk, to hide the tilt."""
    width = DAILY_VOLATILITY * np.sqrt(BLOCK * interval.ms / 86_400_000) / 2
    return float(_generator(symbol, interval, "anchor", edge).uniform(-width, width))


def _generator(symbol: str, interval: Interval, part: str, number: int) -> np.random.Generator:
    digest = hashlib.sha256(f"{symbol}|{interval}|{part}|{number}".encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:16], "big"))
