"""Long histories: all closed candles of a range of time, from one venue alone, page by page and politely.

The first venue that has the newest candles of the range gives all of it: two venues are never mixed, though another
address of the same one may help out. A page that fails is asked for again for a while; the caller keeps those that came.
Knows neither Redis nor files.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from services.ingest.cleaning import describe, usable_rows
from services.ingest.venues.venue import FetchedKlines, PagedVenue
from shared.errors import UnknownSeriesError, UnknownSymbolError, VenueError
from shared.klines import utc
from shared.logs import get_logger
from shared.patience import within
from shared.settings import Series
from shared.venue_symbols import describe_untraded

# Four pages a second are a twelfth of what Binance allows an address (weight 2 each of 6,000 a minute) and less than half
# of OKX's and Bybit's limits, so that an ingest beside us is not held up.
PAUSE_S = 0.25
ANSWER_S = 30.0
TRIES = 5  # of a page, with longer pauses each time
LONGEST_REST_S = 120.0  # what a venue may ask for; whoever is told to stay away for longer should come back later

log = get_logger(__name__)


@dataclass(frozen=True, eq=False)
class Page:
    """The usable candles of a venue that open before `until_ms` (UTC ms) and after the page before; there may be none.

    `open_times_ms` is (n,) in UTC ms, `values` is (n, 6) in the order of shared.klines.COLUMNS.
    """

    venue: str
    until_ms: int
    open_times_ms: NDArray[np.int64]
    values: NDArray[np.float64]


class History:
    """The past of one series. `wait` waits a number of seconds; `tell` hears, in words, what is waited for."""

    def __init__(
        self,
        venues: Sequence[PagedVenue],
        series: Series,
        wait: Callable[[float], None],
        tell: Callable[[str], None],
    ) -> None:
        self._venues = venues
        self._series = series
        self._wait = wait
        self._tell = tell

    def choose_venue(self, until_ms: int) -> str:
        """The name of the first venue that has candles just before a moment (UTC ms).

        Raises UnknownSeriesError where none trades the symbol, else VenueError that names every venue's reason.
        """
        failures: list[VenueError] = []
        for venue in self._venues:
            from_ms = until_ms - venue.page * self._series.interval.ms
            try:
                if len(self._ask(venue, from_ms, until_ms).open_times_ms):
                    return venue.name
                failures.append(VenueError(f"{venue.source} has no candle of {self._series} before {utc(until_ms)}."))
            except VenueError as failure:
                failures.append(failure)
        if all(isinstance(one, UnknownSymbolError) for one in failures):
            raise UnknownSeriesError(self._untraded(), field="symbol")
        reasons = " ".join(one.message for one in failures)
        raise VenueError(f"No venue gave past klines of {self._series}: {reasons}")

    def pages(self, name: str, from_ms: int, until_ms: int) -> Iterator[Page]:
        """All candles of the venue of that name between two moments (UTC ms), oldest first. Raises VenueError."""
        addresses = [venue for venue in self._venues if venue.name == name]
        if not addresses:
            raise VenueError(
                f"The klines so far are of {name}, which data.venues does not name any more: name it again, or begin anew in "
                f"another folder."
            )
        step = addresses[0].page * self._series.interval.ms
        for start in range(from_ms, until_ms, step):
            if start > from_ms:
                self._wait(PAUSE_S)
            end = min(start + step, until_ms)
            rows = usable_rows(self._patiently(addresses, start, end), self._series.interval)
            if rows.defects:
                log.warning("rows_left_out", series=str(self._series), defects=describe(rows.defects, at_most=10))
            inside = (rows.open_times_ms >= start) & (rows.open_times_ms < end)
            yield Page(name, end, rows.open_times_ms[inside], rows.values[inside])

    def _patiently(self, addresses: Sequence[PagedVenue], from_ms: int, until_ms: int) -> FetchedKlines:
        for left in reversed(range(TRIES)):
            for venue in addresses:
                try:
                    return self._ask(venue, from_ms, until_ms)
                except VenueError as error:
                    failure = error
                    if error.retry_after_s is not None:  # it holds for whatever address of theirs is asked
                        break
            rest_s = failure.retry_after_s or 2.0 ** (TRIES - 1 - left)
            if not left or rest_s > LONGEST_REST_S:
                raise failure
            self._tell(f"asking again in {rest_s:g} s: {failure.message}")
            self._wait(rest_s)
        raise AssertionError("the last try returns or raises")

    def _ask(self, venue: PagedVenue, from_ms: int, until_ms: int) -> FetchedKlines:
        try:
            return within(ANSWER_S, lambda: venue.between(*self._series, from_ms, until_ms))
        except TimeoutError:
            raise VenueError(f"{venue.source} did not answer within {ANSWER_S:g} s.") from None

    def _untraded(self) -> str:
        """With the symbols that are written nearly alike, as far as the venues tell what they trade."""
        known: dict[str, frozenset[str]] = {}
        for venue in self._venues:
            try:
                known.setdefault(venue.name, within(ANSWER_S, venue.symbols))
            except (VenueError, TimeoutError) as error:
                log.info("symbols_not_listed", venue=venue.source, reason=str(error))
        return describe_untraded(self._series.symbol, list(dict.fromkeys(one.name for one in self._venues)), known)
