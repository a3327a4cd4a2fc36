"""The venue's time, told by our clock and the difference last heard: it decides which candle is closed and when to fetch.

A difference of a second or two is within the grain of HTTP's Date header and is left alone, so that a machine with a
good clock fetches at its own HH:00:05. Knows no venue and no schedule.
"""

from __future__ import annotations

from collections.abc import Callable

from services.ingest.metrics import CLOCK_OFFSET, TALLY
from shared.logs import get_logger

TOLERANCE_MS = 2000

log = get_logger(__name__)


class VenueClock:
    """`now_ms` is our own clock, in UTC ms."""

    def __init__(self, now_ms: Callable[[], int]) -> None:
        self._now_ms = now_ms
        self._offset_ms = 0

    def now_ms(self) -> int:
        return self._now_ms() + self._offset_ms

    def hear(self, venue_now_ms: int) -> None:
        """Take over what a venue has just said the time is."""
        difference = venue_now_ms - self._now_ms()
        heard = difference if abs(difference) > TOLERANCE_MS else 0
        if abs(heard - self._offset_ms) > TOLERANCE_MS:
            log.warning(
                "clock_differs_from_venue",
                venue_ahead_s=round(difference / 1000, 1),
                advice="the venue's time is followed; set this machine's clock by NTP",
            )
        self._offset_ms = heard
        TALLY.set(CLOCK_OFFSET, difference / 1000)
