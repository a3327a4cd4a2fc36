"""Turn after turn: one cycle at once, then one after each close; a failed one is tried again until the next is due.

Says when the next try is due, and neither waits for it nor knows who does. What a cycle does is not known here.
"""

from __future__ import annotations

from services.ingest.cycle import Cycle
from services.ingest.metrics import TALLY, TURNS
from services.ingest.schedule import due_open_time, next_fetch_time
from services.ingest.venue_clock import VenueClock
from shared.errors import KronosLiveError, StoreUnavailableError, VenueError
from shared.klines import utc
from shared.logs import get_logger

FIRST_BACKOFF_S, LONGEST_BACKOFF_S = 0.5, 30.0
FIRST_PAUSE_WHILE_SIMULATED_S, LONGEST_PAUSE_WHILE_SIMULATED_S = 5.0, 300.0

log = get_logger(__name__)


class Turns:
    """Those of one series, the cycle's. `clock` tells the venue's time."""

    def __init__(self, cycle: Cycle, clock: VenueClock) -> None:
        self._cycle = cycle
        self._interval = cycle.series.interval
        self._clock = clock
        self.begin(None, self._next_fetch())

    def begin(self, expected_open_ms: int | None, until_ms: int) -> None:
        """A candle's turn, which ends at `until_ms`, when the next one is due; `expected_open_ms`: see Market.find."""
        self._expected_open_ms = expected_open_ms
        self._until_ms = until_ms
        self._tries = 0

    def take(self) -> int:
        """Try once, and tell when the next try is due (UTC ms by the venue's time).

        Made-up klines are better than none, but real ones are looked for all the same until the next candle is due. Raises
        what trying again cannot mend, such as SettingsError.
        """
        if self._clock.now_ms() >= self._until_ms:
            next_at = self._next_fetch()
            self.begin(due_open_time(self._interval, next_at - self._interval.ms), next_at)
        self._tries += 1
        error: VenueError | StoreUnavailableError | None = None
        try:
            brought_real = self._cycle.run(self._expected_open_ms)
        except (VenueError, StoreUnavailableError) as failure:
            error, brought_real = failure, False
        # The answer may have corrected our clock; a turn that ran over must not skip the next candle.
        self._until_ms = min(self._until_ms, self._next_fetch())
        if brought_real:
            TALLY.count(TURNS, *self._cycle.series, "real")
            return self._until_ms
        again_at = min(self._clock.now_ms() + round(self._pause_s(error) * 1000), self._until_ms)
        self._report(error, again_at)
        return again_at

    def _pause_s(self, error: VenueError | StoreUnavailableError | None) -> float:
        """After a try that failed, or brought made-up klines: longer each time, or as the venue asks."""
        if error is None:
            return _doubled(FIRST_PAUSE_WHILE_SIMULATED_S, self._tries, LONGEST_PAUSE_WHILE_SIMULATED_S)
        asked_for_s = error.retry_after_s if isinstance(error, VenueError) else None
        return max(_doubled(FIRST_BACKOFF_S, self._tries, LONGEST_BACKOFF_S), asked_for_s or 0.0)

    def _report(self, error: KronosLiveError | None, next_fetch_at_ms: int) -> None:
        """Make a failed try known; made-up klines are none, and the cycle has told of them."""
        TALLY.count(TURNS, *self._cycle.series, "simulated" if error is None else "failed")
        if error is None:
            return
        series = str(self._cycle.series)
        if next_fetch_at_ms == self._until_ms:
            log.error("candle_given_up", series=series, tries=self._tries, next_fetch=utc(next_fetch_at_ms))
        log.warning("cycle_failed", series=series, reason=error.message, next_fetch=utc(next_fetch_at_ms))
        if isinstance(error, StoreUnavailableError):
            return
        try:
            self._cycle.report_failure(error, next_fetch_at_ms)
        except StoreUnavailableError as away:
            log.warning("failure_not_reported", reason=away.message)

    def _next_fetch(self) -> int:
        return next_fetch_time(self._interval, self._clock.now_ms(), self._cycle.settle_seconds)


def _doubled(first_s: float, tries: int, longest_s: float) -> float:
    """Seconds after so many tries, at most `longest_s`, which ten doublings always reach here."""
    return min(first_s * 2.0 ** min(tries - 1, 10), longest_s)
