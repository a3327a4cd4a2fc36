"""From what a venue told to candles that can be trusted: everything wrong is named, nothing is invented.

A row that is told twice alike counts once. A row that contradicts its twin, is impossible, or holds what is no number
counts as missing. What stays is the gap-free run at the end. Knows no venue's protocol, and not how long a run must be.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from services.ingest.venues.venue import FetchedKlines
from shared.errors import VenueError
from shared.klines import Interval, KlineDefect, KlineWindow, find_defects


@dataclass(frozen=True, eq=False)
class UsableRows:
    """Rows that can be trusted, ascending, with what was found on the way; there may be gaps between them."""

    open_times_ms: NDArray[np.int64]
    values: NDArray[np.float64]
    defects: list[KlineDefect]


@dataclass(frozen=True, eq=False)
class CleanKlines:
    """The run that stayed, and what was found on the way."""

    window: KlineWindow
    defects: list[KlineDefect]


def clean(fetched: FetchedKlines, symbol: str, interval: Interval) -> CleanKlines:
    """The gap-free run at the end of what was fetched. Raises VenueError where no row can be used."""
    rows = usable_rows(fetched, interval)
    times, values = rows.open_times_ms, rows.values
    gaps = find_defects(times, values, interval)
    if not len(times):
        of_rows = [found for found in rows.defects if found.kind != "disorder"]
        raise VenueError(f"{fetched.venue} has no usable candle of {symbol} {interval}{_first(of_rows)}.")
    start = int(np.searchsorted(times, gaps[-1].open_time_ms)) if gaps else 0
    window = KlineWindow(symbol, interval, fetched.venue, fetched.origin, times[start:], values[start:])
    return CleanKlines(window, [*rows.defects, *gaps])


def usable_rows(fetched: FetchedKlines, interval: Interval) -> UsableRows:
    """What was fetched, in order and without what cannot be used."""
    told_times, told_values = fetched.open_times_ms, fetched.values
    disorder = [found for found in find_defects(told_times, told_values, interval) if found.kind == "disorder"]
    order = np.argsort(told_times, kind="stable")
    times, values = told_times[order], told_values[order]
    of_rows = [found for found in find_defects(times, values, interval) if found.kind != "gap"]
    keep = _first_of_equals(times, values) & ~np.isin(times, _unusable(times, values, of_rows))
    return UsableRows(times[keep], values[keep], [*disorder, *of_rows])


def describe(defects: list[KlineDefect], at_most: int = 3) -> str:
    """Defects in words, the newest first."""
    newest = sorted(defects, key=lambda found: found.open_time_ms, reverse=True)
    named = "; ".join(f"{found.kind}: {found.detail}" for found in newest[:at_most])
    return f"{named}; and {len(newest) - at_most} more" if len(newest) > at_most else named


def _first_of_equals(times: NDArray[np.int64], values: NDArray[np.float64]) -> NDArray[np.bool_]:
    """False for each row that repeats the one before it, word for word; (n,)."""
    first = np.ones(len(times), dtype=np.bool_)
    first[1:] = (times[1:] != times[:-1]) | ~_alike(values[1:], values[:-1])
    return first


def _unusable(times: NDArray[np.int64], values: NDArray[np.float64], of_rows: list[KlineDefect]) -> NDArray[np.int64]:
    """Open times that no row can be trusted for: impossible ones, and those told twice and differently."""
    contradicted = times[1:][(times[1:] == times[:-1]) & ~_alike(values[1:], values[:-1])]
    impossible = [found.open_time_ms for found in of_rows if found.kind != "duplicate"]
    return np.concatenate([contradicted, np.array(impossible, dtype=np.int64)])


def _alike(one: NDArray[np.float64], other: NDArray[np.float64]) -> NDArray[np.bool_]:
    same: NDArray[np.bool_] = ((one == other) | (np.isnan(one) & np.isnan(other))).all(axis=1)
    return same


def _first(defects: list[KlineDefect]) -> str:
    return f" ({defects[0].kind}: {defects[0].detail})" if defects else ""
