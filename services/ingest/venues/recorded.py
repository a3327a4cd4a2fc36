"""A venue that reads klines from a CSV file (also gzipped) and takes the end of its last candle as now.

Columns by name: open_time (UTC ms), open, high, low, close, volume, and amount or quote_volume. Where the file has
neither, amount is volume times the mean of the four prices.
"""

from __future__ import annotations

import csv
import gzip
import zlib
from collections import deque
from pathlib import Path
from typing import TextIO, cast

import numpy as np
from numpy.typing import NDArray

from services.ingest.venues.venue import FetchedKlines
from shared.errors import SettingsError, VenueError
from shared.klines import Interval

PRICES = ("open", "high", "low", "close")
NEEDED = ("open_time", *PRICES, "volume")
AMOUNTS = ("amount", "quote_volume")
KNOB = "data.recorded_file (KRONOS_DATA__RECORDED_FILE)"


class Recorded:
    name = "recorded"

    def __init__(self, path: Path) -> None:
        self._path = path
        self.source = f"recorded ({path.name})"

    def fetch(self, symbol: str, interval: Interval, count: int) -> FetchedKlines:  # noqa: ARG002 - a file has one symbol
        """The last `count` rows. Raises SettingsError where the file cannot be used or holds other candles."""
        try:
            with _open_text(self._path) as file:
                rows = list(deque(csv.DictReader(file), maxlen=count))
        except (OSError, EOFError, zlib.error, UnicodeDecodeError, csv.Error) as error:
            raise SettingsError(f"{KNOB} names {self._path}, which cannot be read: {error}.") from None
        missing = [name for name in NEEDED if not rows or name not in rows[0]]
        if missing:
            raise SettingsError(
                f"{KNOB} names {self._path}, which has no rows with {', '.join(missing)}: its first line must name the "
                f"columns {', '.join(NEEDED)}, and may name amount or quote_volume."
            )
        times = np.array([self._open_time(row) for row in rows], dtype=np.int64)
        self._refuse_other_interval(times, interval)
        values = np.array([_values(row) for row in rows], dtype=np.float64)
        return FetchedKlines(self.name, "recorded", int(times.max()) + interval.ms, times, values)

    def symbols(self) -> frozenset[str]:
        raise VenueError(f"{self.source} does not say of which symbol its candles are.")

    def _open_time(self, row: dict[str, str]) -> int:
        try:
            return int(row["open_time"])
        except (TypeError, ValueError):
            raise SettingsError(
                f"{KNOB} names {self._path}, where {row['open_time']!r} stands as an open_time: write it in UTC ms."
            ) from None

    def _refuse_other_interval(self, times: NDArray[np.int64], interval: Interval) -> None:
        """Rows of 1 h would otherwise pass for 4 h candles wherever they start at one."""
        steps, counts = np.unique(np.diff(times), return_counts=True)
        if len(steps) and (usual := int(steps[counts.argmax()])) != interval.ms:
            raise SettingsError(
                f"{KNOB} names {self._path}, whose candles are {usual / 60_000:g} minutes apart, but data.interval is "
                f"{interval}: set data.interval to what the file holds."
            )


def _open_text(path: Path) -> TextIO:
    if path.suffix == ".gz":
        return cast("TextIO", gzip.open(path, "rt", newline="", encoding="utf-8"))
    return path.open(newline="", encoding="utf-8")


def _values(row: dict[str, str]) -> list[float]:
    *prices, volume = (_number(row[name]) for name in (*PRICES, "volume"))
    told = next((row[name] for name in AMOUNTS if name in row), None)
    return [*prices, volume, volume * sum(prices) / len(prices) if told is None else _number(told)]


def _number(cell: str | None) -> float:
    try:
        return float(cell or "nan")
    except ValueError:
        return float("nan")
