"""What every venue offers: closed candles as it tells them, read from rows of any layout, over as many pages as it takes.

Nothing is checked against the rules of klines here, and nothing mended: that is for `cleaning`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from shared.errors import VenueError
from shared.klines import COLUMNS, Interval, Origin

SYMBOL = re.compile("[A-Z0-9]{2,20}")
TIME_DIGITS = 15  # of a moment in ms; more of them would be no time that a calendar knows


@dataclass(frozen=True, eq=False)
class Rows:
    """Rows of one answer, oldest first as far as the venue keeps to it: times (n,) in UTC ms, cells (n, columns)."""

    open_times_ms: NDArray[np.int64]
    cells: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.open_times_ms)

    def where(self, keep: NDArray[np.bool_]) -> Rows:
        return Rows(self.open_times_ms[keep], self.cells[keep])


@dataclass(frozen=True, eq=False)
class FetchedKlines:
    """A venue's closed candles as it told them, and its own time `now_ms` (UTC ms) when it did.

    `values` is (n, 6) in the order of shared.klines.COLUMNS; what was no number is NaN.
    """

    venue: str
    origin: Origin
    now_ms: int
    open_times_ms: NDArray[np.int64]
    values: NDArray[np.float64]


class Venue(Protocol):
    """`name` is the venue, `source` the same with its address, for messages."""

    name: str
    source: str

    def fetch(self, symbol: str, interval: Interval, count: int) -> FetchedKlines:
        """The last `count` closed candles, fewer where it has no more. Raises VenueError."""
        ...

    def symbols(self) -> frozenset[str]:
        """All that it trades now, as they are written here. Raises VenueError."""
        ...


class PagedVenue(Venue, Protocol):
    """A venue that also tells what was long ago; `page` is how many candles one answer of it holds at most."""

    page: int

    def between(self, symbol: str, interval: Interval, from_ms: int, until_ms: int) -> FetchedKlines:
        """The closed candles that open from one moment on and before another (UTC ms), which lie no further apart than
        `page` candles; none where it has none. Raises VenueError.
        """
        ...


def read_rows(source: str, rows: object, columns: Sequence[int]) -> Rows:
    """JSON rows whose first cell is the open time; `columns` are the positions of the cells to keep, in that order.

    Raises VenueError where this is no table of that shape. A cell that is no number becomes NaN, to be named later.
    """
    if not isinstance(rows, list):
        raise VenueError(f"{source} answered with {type(rows).__name__} where rows of klines were expected.")
    for row in rows:
        if not isinstance(row, list) or len(row) <= max(columns) or not is_time(row[0]):
            raise VenueError(f"{source} answered with a row that is no kline: {str(row)[:80]!r}.")
    return Rows(
        np.array([int(row[0]) for row in rows], dtype=np.int64),
        np.array([[_number(row[i]) for i in columns] for row in rows], dtype=np.float64).reshape(-1, len(columns)),
    )


def read_symbols(source: str, entries: object, read: Callable[[dict[str, Any]], str | None]) -> frozenset[str]:
    """The symbols in a list of JSON objects; `read` gives one's symbol, or None where it is not traded.

    Raises VenueError where that is no such list, or an empty one. What could not be asked for here is left out.
    """
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise VenueError(f"{source} answered with {type(entries).__name__} where a list of symbols was expected.")
    symbols = frozenset(
        symbol for entry in entries if isinstance(symbol := read(entry), str) and SYMBOL.fullmatch(symbol)
    )
    if not symbols:
        raise VenueError(f"{source} answered with a list of symbols in which none is traded.")
    return symbols


def page_back(newest: Rows, older: Callable[[int, int], Rows], count: int) -> Rows:
    """`newest` with older pages before it, until there are `count` rows or the venue has no more.

    `older(before_ms, at_most)` gives rows that open before a moment. Pages go back in time, so a candle that closes
    meanwhile changes nothing.
    """
    pages = [newest]
    while len(pages[0]) and (missing := count - sum(map(len, pages))) > 0:
        oldest = int(pages[0].open_times_ms.min())
        page = older(oldest, missing)
        pages.insert(0, page.where(page.open_times_ms < oldest))
    return Rows(np.concatenate([page.open_times_ms for page in pages]), np.concatenate([page.cells for page in pages]))


def closed_klines(venue: str, now_ms: int, rows: Rows, closed: NDArray[np.bool_], count: int) -> FetchedKlines:
    """The last `count` of a live venue's closed rows; its first six cells are those of COLUMNS."""
    kept = rows.where(closed)
    return FetchedKlines(venue, "live", now_ms, kept.open_times_ms[-count:], kept.cells[-count:, : len(COLUMNS)])


def is_time(cell: object) -> bool:
    """Whether a cell can be a moment in UTC ms."""
    return isinstance(cell, int | str) and str(cell).isdecimal() and len(str(cell)) <= TIME_DIGITS


def _number(cell: object) -> float:
    try:
        return float(cell)  # type: ignore[arg-type]  # whatever is no number raises
    except (TypeError, ValueError, OverflowError):
        return float("nan")
