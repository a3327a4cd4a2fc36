"""The market: which venues are asked, in what order, for how long, and what holds when none answers.

A venue that fails is named with its reason and the next one is asked; one window never holds two venues. Simulated
klines come last, and only where the caller says that they may. Knows neither Redis nor the schedule.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from copy import copy
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import TypeVar

import httpx

from services.ingest.cleaning import CleanKlines, clean, describe
from services.ingest.metrics import TALLY, VENUE_ANSWERS, VENUE_FAILURES, VENUE_REST
from services.ingest.pace import Pace
from services.ingest.schedule import due_open_time
from services.ingest.venue_clock import VenueClock
from services.ingest.venues.binance import Binance
from services.ingest.venues.bybit import Bybit
from services.ingest.venues.okx import Okx
from services.ingest.venues.recorded import Recorded
from services.ingest.venues.simulated import Simulated
from services.ingest.venues.venue import PagedVenue, Venue
from shared.errors import UnknownSymbolError, VenueError
from shared.klines import KlineWindow, utc
from shared.logs import get_logger
from shared.patience import within
from shared.settings import SHORTEST_HISTORY, Series, Settings

# A venue's time this far ahead of ours is nonsense sooner than ours is wrong, and nothing would ever be new again after it
# had been followed. One behind ours does no such harm: the next venue that is ahead of it is followed.
FARTHEST_AHEAD_MS = 86_400_000
# A venue that is farther behind the close of an expected candle than this tells that our clock was wrong, not that it is late.
BEHIND_AT_MOST_MS = 60_000
LISTING_SECONDS = 30.0  # a list of all symbols is long, and nobody waits for it
LISTING_REQUESTS = 10  # so many requests for klines weigh as much, with Binance

T = TypeVar("T")

log = get_logger(__name__)


@dataclass(frozen=True, eq=False)
class Found:
    """Klines that can be used, and what a person should know about them, if anything."""

    window: KlineWindow
    problem: str | None


class Market:
    """The configured venues, asked for the first of the configured series unless `of` names another. `now_ms` is our own
    clock, in UTC ms; `clock` learns the venue's.
    """

    def __init__(self, settings: Settings, clock: VenueClock, now_ms: Callable[[], int]) -> None:
        self.series = settings.data.all_series[0]
        self._count = settings.limits.max_history
        self._wanted = max(settings.data.history_window, settings.data.volatility_window + 1)
        self._search_seconds = settings.venues.search_seconds
        self._clock = clock
        self._now_ms = now_ms
        self._venues = venues_of(settings)
        # Of a venue by its name: a limit of theirs holds for all of its addresses together.
        self._paces = paces_of(settings)
        self._requests = requests_a_search(self._venues, self._count)
        self._goes_first = False
        # Made-up klines never stand in for a file that somebody names.
        self._allow_simulated = settings.data.allow_simulated and "recorded" not in settings.data.venues
        self._simulated = Simulated(now_ms)
        self._rests_until_ms: dict[str, int] = {}

    def of(self, series: Series, *, goes_first: bool = False) -> Market:
        """The same venues, asked for another series: one that wants to be left alone is left alone by all, and the pace is of
        all together. `goes_first`: before all that the schedule asks, since people wait for it.
        """
        other = copy(self)
        other.series = series
        other._goes_first = goes_first
        return other

    @property
    def seconds_a_series(self) -> float:
        """How far apart series are that the first venue is asked for at its pace."""
        name = self._venues[0].name
        return self._paces[name].seconds_for(self._requests[name]) if name in self._paces else 0.0

    def find(self, expected_open_ms: int | None, *, may_simulate: bool) -> Found:
        """The newest closed candles, from the first venue that has enough of them.

        `expected_open_ms` is the candle that must be there already (UTC ms; None where nothing is expected yet), unless the
        venue's time says that ours is wrong; `may_simulate` is false for a series that was ever live. Raises VenueError that
        names every venue's reason, as UnknownSymbolError where none knows the symbol; its `retry_after_s` is set where all
        want to be left alone.
        """
        short: list[CleanKlines] = []
        failures: list[VenueError] = []
        patience = Patience(self._search_seconds)
        for place, venue in enumerate(self._venues):
            try:
                patience.spare(self._take_turn(venue, self._requests.get(venue.name, 0)))
                klines = self._ask(venue, patience.left_s / (len(self._venues) - place), expected_open_ms)
            except VenueError as failure:
                TALLY.count(VENUE_FAILURES, venue.source)
                log.warning("venue_failed", series=str(self.series), venue=venue.source, reason=failure.message)
                failures.append(failure)
                continue
            TALLY.count(VENUE_ANSWERS, venue.source)
            if len(klines.window) >= self._wanted:
                return Found(klines.window, None)
            log.warning("history_too_short", series=str(self.series), venue=venue.source, candles=len(klines.window))
            failures.append(VenueError(self._too_short(venue, klines)))
            short.append(klines)
        best = max(short, key=lambda klines: len(klines.window), default=None)
        if best is not None and len(best.window) >= SHORTEST_HISTORY:
            return Found(best.window, f"The history is shorter than wanted: {_sentences(failures)}")
        return self._without_a_venue(failures, may_simulate)

    def list_symbols(self) -> dict[str, frozenset[str] | None]:
        """What each venue trades, by its name; none where it does not tell."""
        listed: dict[str, frozenset[str] | None] = {}
        for venue in self._venues:
            if listed.get(venue.name) is None:
                try:
                    self._take_turn(venue, LISTING_REQUESTS)
                    listed[venue.name] = self._question(venue, LISTING_SECONDS, venue.symbols)
                except VenueError as failure:
                    listed[venue.name] = None
                    log.info("symbols_not_listed", venue=venue.source, reason=failure.message)
        return listed

    def _ask(self, venue: Venue, seconds: float, expected_open_ms: int | None) -> CleanKlines:
        """Clean klines of one venue that end with the candle due by its own time. Raises VenueError."""
        fetched = self._question(venue, seconds, lambda: venue.fetch(*self.series, self._count))
        if fetched.origin == "live":
            self._refuse_nonsense(venue, fetched.now_ms)
        klines = clean(fetched, *self.series)
        due = due_open_time(self.series.interval, fetched.now_ms)
        if fetched.origin == "live" and expected_open_ms is not None:
            closed_at_ms = expected_open_ms + self.series.interval.ms
            due = max(due, expected_open_ms) if fetched.now_ms >= closed_at_ms - BEHIND_AT_MOST_MS else due
        log.info(
            "klines_fetched",
            series=str(self.series),
            venue=venue.source,
            candles=len(klines.window),
            candle=utc(klines.window.last_open_time_ms),
            defects=describe(klines.defects, at_most=10) or None,
        )
        if klines.window.last_open_time_ms < due:
            at_due = [defect for defect in klines.defects if defect.open_time_ms >= due]
            reason = f"cannot be used ({describe(at_due)})" if at_due else "is not yet there"
            raise VenueError(f"{venue.source}: the candle of {utc(due)} {reason}.")
        if fetched.origin == "live":
            self._clock.hear(fetched.now_ms)  # only now, when its candles bear out the time that it tells
        return klines

    def _take_turn(self, venue: Venue, requests: int) -> float:
        """Wait until its venue's pace allows so many requests, and tell the seconds that this took. Raises VenueError where
        it wants to be left alone, which spends nothing of the pace.
        """
        self._refuse_unrest(venue)
        pace = self._paces.get(venue.name)
        return pace.wait(requests, goes_first=self._goes_first) if pace else 0.0

    def _refuse_unrest(self, venue: Venue) -> None:
        rest_s = (self._rests_until_ms.get(venue.name, 0) - self._now_ms()) / 1000
        if rest_s > 0:
            raise VenueError(
                f"{venue.source} is left alone for another {rest_s:.0f} s: a limit of {venue.name} holds for all "
                "questions from this machine, whichever address of theirs gets them.",
                retry_after_s=rest_s,
            )

    def _question(self, venue: Venue, seconds: float, ask: Callable[[], T]) -> T:
        """What a venue answers, unless it has come to want to be left alone. Raises VenueError."""
        self._refuse_unrest(venue)
        try:
            return within(seconds, ask)
        except TimeoutError:
            raise VenueError(f"{venue.source} did not answer within {seconds:.1f} s.") from None
        except VenueError as error:
            if error.retry_after_s is not None:
                self._rests_until_ms[venue.name] = self._now_ms() + round(error.retry_after_s * 1000)
                TALLY.set(VENUE_REST, self._rests_until_ms[venue.name] / 1000, venue.source)
            raise

    def _refuse_nonsense(self, venue: Venue, venue_now_ms: int) -> None:
        if venue_now_ms > self._now_ms() + FARTHEST_AHEAD_MS:
            raise VenueError(
                f"{venue.source} says that it is {utc(venue_now_ms)}, more than a day ahead of this machine's "
                f"{utc(self._now_ms())}, and is not believed; if it is right, set this machine's clock by NTP."
            )

    def _too_short(self, venue: Venue, klines: CleanKlines) -> str:
        reason = f" ({describe(klines.defects)})" if klines.defects else ""
        return f"{venue.source} has {len(klines.window)} candles without a gap, {self._wanted} are wanted{reason}."

    def _without_a_venue(self, failures: list[VenueError], may_simulate: bool) -> Found:
        reasons = _sentences(failures)
        # A mistyped symbol gets an error, not a made-up market.
        mistyped = [failure for failure in failures if isinstance(failure, UnknownSymbolError)]
        if self._allow_simulated and may_simulate and not mistyped:
            fetched = self._simulated.fetch(*self.series, self._count)
            log.warning("klines_simulated", series=str(self.series), candle=utc(int(fetched.open_times_ms[-1])))
            window = clean(fetched, *self.series).window
            return Found(window, f"These klines are simulated, since no venue gave any: {reasons}")
        pauses = [failure.retry_after_s or 0.0 for failure in failures]
        kind = UnknownSymbolError if mistyped == failures else VenueError
        raise kind(f"No venue gave klines of {self.series}: {reasons}", retry_after_s=min(pauses) or None)


class Patience:
    """The seconds that a search may take, without those that it waited for its turn."""

    def __init__(self, seconds: float) -> None:
        self._until_s = time.monotonic() + seconds

    def spare(self, seconds: float) -> None:
        self._until_s += seconds

    @property
    def left_s(self) -> float:
        return self._until_s - time.monotonic()


def paces_of(settings: Settings) -> dict[str, Pace]:
    """That of each live venue, by its name."""
    venues = settings.venues
    a_minute = {
        "binance": venues.binance_requests_per_minute,
        "okx": venues.okx_requests_per_minute,
        "bybit": venues.bybit_requests_per_minute,
    }
    return {name: Pace(a_minute[name]) for name in settings.data.venues if name in a_minute}


def requests_a_search(venues: list[Venue], count: int) -> dict[str, int]:
    """How many each live venue is sent, by its name, for so many closed candles; the open one comes along."""
    return {one.name: ceil((count + 1) / one.page) for one in venues if isinstance(one, Binance | Okx | Bybit)}


def venues_of(settings: Settings) -> list[Venue]:
    """The configured venues, one for each address, in the order in which they are asked."""
    if "recorded" in settings.data.venues:  # it stands alone
        return [Recorded(Path(settings.data.recorded_file))]
    return list(live_venues_of(settings))


def live_venues_of(settings: Settings) -> list[PagedVenue]:
    """Those of them that are asked over HTTP."""
    # Answers that drip in for longer are abandoned by `within`; this ends what it has left behind.
    client = httpx.Client(timeout=settings.venues.search_seconds, headers={"User-Agent": "kronos-live"})
    made: list[PagedVenue] = []
    for name in settings.data.venues:
        if name == "binance":
            made += [Binance(url, client) for url in settings.venues.binance_urls]
        elif name == "okx":
            made.append(Okx(settings.venues.okx_url, client))
        elif name == "bybit":
            made.append(Bybit(settings.venues.bybit_url, client))
    return made


def _sentences(failures: list[VenueError]) -> str:
    return " ".join(failure.message for failure in failures)
