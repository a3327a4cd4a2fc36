"""Files of past klines -> gap-free stretches of sound candles.

Reads CSV, gzipped or not, with a header that names the columns, and Parquet with the same columns. Knows nothing of
windows, normalising or torch.
"""

from __future__ import annotations

import csv
import gzip
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import numpy as np
from numpy.typing import NDArray

from shared.errors import KlineError
from shared.klines import COLUMNS, Interval

PRICES = ("open", "high", "low", "close")
AMOUNT_NAMES = ("amount", "quote_volume")
ENDINGS = (".csv", ".csv.gz", ".parquet")


@dataclass(frozen=True, eq=False)
class Stretch:
    """Consecutive candles without a gap: `open_times_ms` (n,) int64 UTC, `values` (n, 6) float64, shared.klines order."""

    symbol: str
    open_times_ms: NDArray[np.int64]
    values: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.open_times_ms)

    def between(self, from_ms: int, until_ms: int) -> Stretch:
        """The candles that open at or after from_ms and before until_ms."""
        first, last = np.searchsorted(self.open_times_ms, (from_ms, until_ms))
        return Stretch(self.symbol, self.open_times_ms[first:last], self.values[first:last])


def find_kline_files(folder: Path, interval: Interval) -> list[Path]:
    """The files SYMBOL-INTERVAL.csv(.gz) of a folder, by name. Raises KlineError when there is none."""
    found = sorted(file for ending in ENDINGS for file in folder.glob(f"*-{interval}{ending}"))
    if not found:
        raise KlineError(
            f"No klines to learn from: '{folder}' holds no file named like BTCUSDT-{interval}.csv, "
            f"BTCUSDT-{interval}.csv.gz or BTCUSDT-{interval}.parquet; name the folder that does."
        )
    return found


def read_stretches(path: Path, interval: Interval) -> list[Stretch]:
    """All gap-free stretches of a file, in time; a row that breaks its own rules is left out and so makes a gap.

    Amount is the file's quote volume; where it has none, volume times the mean of open, high, low and close.
    """
    _refuse_other_interval(path, interval)
    times, values = _read_rows(path)
    if len(times) > 1 and np.median(np.abs(np.diff(times))) != interval.ms:
        raise KlineError(f"'{path}' does not hold candles of {interval}: most of its rows do not lie that far apart.")
    o, h, low, c = values[:, 0], values[:, 1], values[:, 2], values[:, 3]
    sound = (
        np.isfinite(values).all(axis=1)
        & (low > 0)
        & (h >= np.maximum(o, c))
        & (low <= np.minimum(o, c))
        & (values[:, 4:] >= 0).all(axis=1)
        & (times % interval.ms == 0)
    )
    times, values = times[sound], values[sound]
    if not len(times):
        raise KlineError(
            f"'{path}' holds no candle that keeps the rules: prices above 0, the high highest, the low lowest."
        )
    steps = np.diff(times)
    if (steps <= 0).any():
        raise KlineError(f"The rows of '{path}' must ascend in open_time without repeating; sort the file first.")
    symbol = path.name.split("-")[0]
    cuts = np.flatnonzero(steps != interval.ms) + 1
    return [
        Stretch(symbol, part_times, part_values)
        for part_times, part_values in zip(np.split(times, cuts), np.split(values, cuts), strict=True)
    ]


def _refuse_other_interval(path: Path, interval: Interval) -> None:
    """Where the name says one, as in BTCUSDT-15m.csv."""
    named = path.name.split(".")[0].split("-")[1:2]
    if named and named[0] in set(Interval) and named[0] != interval:
        raise KlineError(f"'{path}' says in its name that its candles are of {named[0]}, but {interval} was asked for.")


def _read_rows(path: Path) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Open times (n,) and the six columns (n, 6), amount made up from volume and prices where there is none."""
    times, columns = _read_parquet(path) if path.suffix == ".parquet" else _read_csv(path)
    if not len(times):
        raise KlineError(f"'{path}' holds no kline.")
    if columns.shape[1] == len(COLUMNS) - 1:
        columns = np.column_stack((columns, columns[:, 4] * columns[:, :4].mean(axis=1)))
    return times, columns


def _read_csv(path: Path) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    try:
        with _open(path) as lines:
            reader = csv.DictReader(lines)
            names = _columns_of(path, reader.fieldnames or ())
            rows = list(_numbers(reader, names))
        table = np.array([row[1] for row in rows], dtype=np.float64).reshape(-1, len(names))
        return np.array([row[0] for row in rows], dtype=np.int64), table
    except (OSError, EOFError, ValueError, TypeError, OverflowError, csv.Error, zlib.error) as error:
        raise KlineError(f"'{path}' cannot be read as CSV klines: {error}.") from error


def _read_parquet(path: Path) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise KlineError(f"'{path}' is read with pyarrow, which is not installed: pip install pyarrow.") from None
    try:
        names = _columns_of(path, pyarrow.parquet.read_schema(path).names)
        table = pyarrow.parquet.read_table(path, columns=["open_time", *names])
        times = table["open_time"].cast(pyarrow.int64()).to_numpy()
        return times, np.column_stack([table[name].to_numpy().astype(np.float64) for name in names])
    except (OSError, pyarrow.ArrowException, ValueError) as error:
        raise KlineError(f"'{path}' cannot be read as Parquet klines: {error}.") from error


def _columns_of(path: Path, columns: Sequence[str]) -> tuple[str, ...]:
    """The names of the five or six columns to read. Raises KlineError where one is missing."""
    missing = [name for name in ("open_time", *PRICES, "volume") if name not in columns]
    if missing:
        raise KlineError(f"'{path}' lacks the column {missing[0]}; its header names {', '.join(columns)}.")
    amount = [name for name in AMOUNT_NAMES if name in columns]
    return (*PRICES, "volume", *amount[:1])


def _numbers(rows: Iterable[dict[str, str]], names: Sequence[str]) -> Iterator[tuple[int, list[float]]]:
    for row in rows:
        yield int(row["open_time"]), [float(row[name]) for name in names]


def _open(path: Path) -> TextIO:
    if path.suffix == ".gz":
        return gzip.open(path, "rt", newline="")
    return path.open(newline="")
