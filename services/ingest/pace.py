"""How fast a venue is asked: so many requests a minute, evenly, in the order in which they were wanted.

What people wait for goes before all that the schedule wants. Knows no venue; what a question costs is handed in.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from heapq import heappop, heappush
from itertools import count
from threading import Condition


class Pace:
    """Shared by all threads that ask a venue. `now_s` is a clock that never goes back."""

    def __init__(self, requests_per_minute: int, now_s: Callable[[], float] = time.monotonic) -> None:
        self._gap_s = 60 / requests_per_minute
        self._now_s = now_s
        self._free_at_s = now_s()
        self._numbers = count()
        self._waiting: list[tuple[bool, int]] = []  # a heap: whoever goes first is at its head
        self._moved_on = Condition()

    def wait(self, requests: int, *, goes_first: bool) -> float:
        """Return when so many requests may be sent, with the seconds that this took.

        They go out at once, and the next ones wait until as many would have gone out one by one.
        """
        began_s = self._now_s()
        with self._moved_on:
            place = (not goes_first, next(self._numbers))
            heappush(self._waiting, place)
            while (left_s := self._left_s(place)) is None or left_s > 0:
                self._moved_on.wait(left_s)
            heappop(self._waiting)
            now_s = self._now_s()
            self._free_at_s = max(now_s, self._free_at_s) + requests * self._gap_s
            self._moved_on.notify_all()
        return now_s - began_s

    def _left_s(self, place: tuple[bool, int]) -> float | None:
        """Seconds until whoever has a place may go on; None where another one is to go before that."""
        return self._free_at_s - self._now_s() if self._waiting[0] == place else None

    def seconds_for(self, requests: int) -> float:
        """How long so many take from the first on, where nothing else is asked."""
        return requests * self._gap_s
