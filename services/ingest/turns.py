"""Turn after turn: one cycle at once, then one after each close; a failed one is tried again until the next is due.

Waits, backs off and keeps count of nothing else. What a cycle does is not known here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NoReturn

from tenacity import RetryCallState, Retrying, retry_if_exception_type, retry_if_result, wait_exponential

from services.ingest.cycle import Cycle
from services.ingest.metrics import TALLY, TURNS
from services.ingest.schedule import due_open_time, next_fetch_time
from services.ingest.venue_clock import VenueClock
from shared.errors import KronosLiveError, StoreUnavailableError, VenueError
from shared.klines import Interval, utc
from shared.logs import get_logger

LONGEST_BACKOFF_S = 30
LONGEST_PAUSE_WHILE_SIMULATED_S = 300
NAP_S = 30.0  # a machine that was asleep notices within this that the time has passed

log = get_logger(__name__)


class Turns:
    """`wait` waits a number of seconds; `clock` tells the venue's time."""

    def __init__(
        self,
        cycle: Cycle,
        interval: Interval,
        settle_seconds: float,
        clock: VenueClock,
        wait: Callable[[float], None],
    ) -> None:
        self._cycle = cycle
        self._interval = interval
        self._settle_seconds = settle_seconds
        self._clock = clock
        self._wait = wait

    def run_forever(self) -> NoReturn:
        """Never returns. Raises what trying again cannot mend, such as SettingsError."""
        expected: int | None = None
        next_at = self._next_fetch()
        while True:
            self.take(expected, next_at)
            # The first answer may have corrected our clock; a turn that ran over must not skip the next candle.
            next_at = min(next_at, self._next_fetch())
            self._wait_until(next_at)
            expected = due_open_time(self._interval, next_at)
            next_at = self._next_fetch()

    def take(self, expected_open_ms: int | None, until_ms: int) -> bool:
        """One candle's turn: the cycle, tried again with backoff or as the venue asks; False if `until_ms` comes first.

        Made-up klines are better than none, but real ones are looked for all the same until the next candle is due.
        """
        backoff = wait_exponential(multiplier=0.5, max=LONGEST_BACKOFF_S)
        slow_backoff = wait_exponential(multiplier=5, max=LONGEST_PAUSE_WHILE_SIMULATED_S)

        def pause_s(state: RetryCallState) -> float:
            error = _error(state)
            if error is None:
                return slow_backoff(state)
            return max(backoff(state), getattr(error, "retry_after_s", None) or 0.0)

        def too_late(state: RetryCallState) -> bool:
            return self._clock.now_ms() + state.upcoming_sleep * 1000 >= until_ms

        def report(state: RetryCallState) -> None:
            self._report(_error(state), self._clock.now_ms() + round(state.upcoming_sleep * 1000))

        def give_up(state: RetryCallState) -> bool:
            if _error(state) is not None:
                log.error(
                    "candle_given_up",
                    series=str(self._cycle.series),
                    tries=state.attempt_number,
                    next_fetch=utc(until_ms),
                )
            self._report(_error(state), until_ms)
            return False

        attempts = Retrying(
            retry=retry_if_exception_type((VenueError, StoreUnavailableError)) | retry_if_result(lambda real: not real),
            wait=pause_s,
            stop=too_late,
            sleep=self._wait,
            before_sleep=report,
            retry_error_callback=give_up,
        )

        brought_real = bool(attempts(self._cycle.run, expected_open_ms))
        if brought_real:
            TALLY.count(TURNS, *self._cycle.series, "real")
        return brought_real

    def _report(self, error: KronosLiveError | None, next_fetch_at_ms: int) -> None:
        """Make a failed try known; made-up klines are none, and the cycle has told of them."""
        TALLY.count(TURNS, *self._cycle.series, "simulated" if error is None else "failed")
        if error is None:
            return
        series = str(self._cycle.series)
        log.warning("cycle_failed", series=series, reason=error.message, next_fetch=utc(next_fetch_at_ms))
        if isinstance(error, StoreUnavailableError):
            return
        try:
            self._cycle.report_failure(error, next_fetch_at_ms)
        except StoreUnavailableError as away:
            log.warning("failure_not_reported", reason=away.message)

    def _next_fetch(self) -> int:
        return next_fetch_time(self._interval, self._clock.now_ms(), self._settle_seconds)

    def _wait_until(self, at_ms: int) -> None:
        while (left_s := (at_ms - self._clock.now_ms()) / 1000) > 0:
            self._wait(min(left_s, NAP_S))


def _error(state: RetryCallState) -> KronosLiveError | None:
    """What a try failed with; None where it brought made-up klines."""
    error = state.outcome.exception() if state.outcome else None
    if error is not None and not isinstance(error, KronosLiveError):
        raise RuntimeError("only a failed try that can be repeated is reported")
    return error
