"""Klines: an interval, and a window of closed candles that can be trusted.

A window knows its own rules (closed, ascending, gap-free, finite, consistent, UTC) and its content hash. It does not
know where it is stored, how it was fetched, or what a model does with it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from shared.errors import KlineError

COLUMNS = ("open", "high", "low", "close", "volume", "amount")
OPEN, HIGH, LOW, CLOSE, VOLUME, AMOUNT = range(len(COLUMNS))

# live: fetched from a venue; recorded: read from a file, its last candle taken as now; simulated: made up by us;
# uploaded: sent by whoever asked for the forecast. All but the last are ingested.
Origin = Literal["live", "recorded", "simulated", "uploaded"]
IngestedOrigin = Literal["live", "recorded", "simulated"]
ORIGINS: tuple[Origin, ...] = get_args(Origin)


class Interval(StrEnum):
    """The length of a candle, by the name that venues use. Every one divides a UTC day, so all are aligned to it."""

    M1 = "1m"
    M3 = "3m"
    M5 = "5m"
    M15 = "15m"
    M30 = "30m"
    H1 = "1h"
    H2 = "2h"
    H4 = "4h"
    H6 = "6h"
    H12 = "12h"
    D1 = "1d"

    @property
    def ms(self) -> int:
        """Length in milliseconds."""
        return int(self.value[:-1]) * {"m": 60_000, "h": 3_600_000, "d": 86_400_000}[self.value[-1]]

    @property
    def seconds(self) -> int:
        return self.ms // 1000

    def open_time(self, at_ms: int) -> int:
        """Open time, in UTC ms, of the candle that contains the moment `at_ms`."""
        return at_ms - at_ms % self.ms


@dataclass(frozen=True)
class KlineDefect:
    """One thing wrong with one row: `kind` is a stable word, `open_time_ms` says where, `detail` reads as a sentence;
    `row` is its place among the rows, from 0.
    """

    kind: Literal["duplicate", "disorder", "gap", "misaligned", "non_finite", "inconsistent"]
    open_time_ms: int
    detail: str
    row: int


def find_defects(
    open_times_ms: NDArray[np.int64], values: NDArray[np.float64], interval: Interval
) -> list[KlineDefect]:
    """Everything wrong with rows of klines: first what is wrong with each by itself, then with their order.

    `open_times_ms` is (n,), `values` is (n, 6) in the order of COLUMNS.
    """
    return [*_row_defects(open_times_ms, values, interval), *_order_defects(open_times_ms, interval)]


def _row_defects(times: NDArray[np.int64], values: NDArray[np.float64], interval: Interval) -> Iterator[KlineDefect]:
    for place, (time, row) in enumerate(zip(times.tolist(), values.tolist(), strict=True)):
        o, h, low, c, volume, amount = row
        if time % interval.ms:
            yield KlineDefect("misaligned", time, f"{utc(time)} is not the start of a {interval} candle", place)
        if not np.isfinite(row).all():
            yield KlineDefect("non_finite", time, f"{utc(time)} has a value that is not a finite number", place)
        elif low <= 0 or h < max(o, c, low) or low > min(o, c) or volume < 0 or amount < 0:
            yield KlineDefect(
                "inconsistent",
                time,
                f"{utc(time)} has open {o:g}, high {h:g}, low {low:g}, close {c:g}, volume {volume:g}, amount {amount:g}",
                place,
            )


def _order_defects(times: NDArray[np.int64], interval: Interval) -> Iterator[KlineDefect]:
    for place, (before, after) in enumerate(zip(times[:-1].tolist(), times[1:].tolist(), strict=True), 1):
        step = after - before
        if step == 0:
            yield KlineDefect("duplicate", after, f"{utc(after)} is there twice", place)
        elif step < 0:
            yield KlineDefect("disorder", after, f"{utc(after)} follows {utc(before)}", place)
        elif step > interval.ms:
            missing = step // interval.ms - 1
            detail = f"{missing} candles are missing between {utc(before)} and {utc(after)}"
            yield KlineDefect("gap", after, detail, place)


@dataclass(frozen=True, eq=False)
class KlineWindow:
    """Closed candles of one symbol from one venue: ascending, gap-free, finite and consistent.

    `open_times_ms` is (n,) int64 in UTC ms, `values` is (n, 6) float64 in the order of COLUMNS. Raises KlineError where
    the rows break a rule, so whoever holds a window need not look again.
    """

    symbol: str
    interval: Interval
    venue: str
    origin: Origin
    open_times_ms: NDArray[np.int64]
    values: NDArray[np.float64]

    def __post_init__(self) -> None:
        if self.values.shape != (len(self.open_times_ms), len(COLUMNS)) or not len(self.open_times_ms):
            raise KlineError(
                f"A window of {self.symbol} needs at least one row of {len(COLUMNS)} columns, but its values have the "
                f"shape {self.values.shape} for {len(self.open_times_ms)} open times."
            )
        defects = find_defects(self.open_times_ms, self.values, self.interval)
        if defects:
            raise KlineError(
                f"Klines of {self.symbol} {self.interval} from {self.venue} have {len(defects)} defects, "
                f"the first: {defects[0].kind}, {defects[0].detail}."
            )

    def __len__(self) -> int:
        return len(self.open_times_ms)

    @property
    def last_open_time_ms(self) -> int:
        return int(self.open_times_ms[-1])

    @property
    def last_close_time_ms(self) -> int:
        """The moment at which the last candle closed, which is where the next one opens."""
        return self.last_open_time_ms + self.interval.ms

    @property
    def last_close(self) -> float:
        return float(self.values[-1, CLOSE])

    def tail(self, count: int) -> KlineWindow:
        """The last `count` candles, all of them if there are fewer."""
        return KlineWindow(
            self.symbol, self.interval, self.venue, self.origin, self.open_times_ms[-count:], self.values[-count:]
        )

    def content_hash(self) -> str:
        """sha256 over what the window says (series, venue, origin and every row): equal content, equal hash."""
        digest = hashlib.sha256(f"{self.symbol}|{self.interval}|{self.venue}|{self.origin}|".encode())
        digest.update(np.ascontiguousarray(self.open_times_ms, dtype="<i8").tobytes())
        digest.update(np.ascontiguousarray(self.values, dtype="<f8").tobytes())
        return digest.hexdigest()


def utc(at_ms: int) -> str:
    """A moment in UTC ms as people read it: 2026-11-23 12:00:00Z."""
    return str(np.datetime64(at_ms, "ms").astype("datetime64[s]")).replace("T", " ") + "Z"
