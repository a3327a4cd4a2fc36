"""The time that a test's venue tells: it begins anew for each test, so that no candle closes in the middle of one by chance."""

from __future__ import annotations

import time

from shared.klines import Interval

DAY_MS = 86_400_000
AFTER_CLOSE_MS = (
    120_000  # so that the shortest candle of these tests, of 15 minutes, closes long after a test has ended
)


class VenueTime:
    """Our own time, and what the venue's is ahead of it. Called, it gives UTC ms."""

    def __init__(self) -> None:
        self.ahead_ms = 0
        self._stopped_at_ms: int | None = None

    def __call__(self) -> int:
        return now_ms() + self.ahead_ms if self._stopped_at_ms is None else self._stopped_at_ms

    def begin_day(self, days_ago: int = 0) -> None:
        """It is a little past midnight, of today or of an earlier day: no candle closes for as long as the shortest lasts."""
        self.set(now_ms() // DAY_MS * DAY_MS - days_ago * DAY_MS + AFTER_CLOSE_MS)

    def set(self, at_ms: int) -> None:
        self._stopped_at_ms = None
        self.ahead_ms = at_ms - now_ms()

    def stop_before_close(self, interval: Interval, seconds: float) -> None:
        """It stands still so long before the next candle of an interval closes."""
        self._stopped_at_ms = interval.open_time(self()) + interval.ms - round(seconds * 1000)

    def go_on(self) -> None:
        """From where it was stopped."""
        self.set(self())


def now_ms() -> int:
    return time.time_ns() // 1_000_000
