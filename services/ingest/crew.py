"""The crew that takes the turns of all series: a few threads, each of which takes whichever has been due for longest.

So thousands of series need no thread of their own, and no more of them are under way at once than there are threads. Knows
no venue and no store.
"""

from __future__ import annotations

from collections.abc import Sequence
from heapq import heapify, heappop, heappush
from threading import Condition
from typing import NoReturn

from services.ingest.metrics import LATENESS, TALLY
from services.ingest.turns import Turns
from services.ingest.venue_clock import VenueClock

NAP_S = 30.0  # a machine that was asleep notices within this that the time has passed


class Crew:
    """`clock` tells the venue's time. All series are due at once, in the order in which they are given."""

    def __init__(self, turns: Sequence[Turns], clock: VenueClock) -> None:
        self._turns = turns
        self._clock = clock
        now_ms = clock.now_ms()
        self._due = [(now_ms, place) for place in range(len(turns))]  # a heap of UTC ms and places in `turns`
        heapify(self._due)
        self._changed = Condition()

    def work_forever(self) -> NoReturn:
        """What each thread does. Never returns; raises what trying again cannot mend, such as SettingsError."""
        while True:
            place = self._next_due()
            self._put_back(self._turns[place].take(), place)

    def _next_due(self) -> int:
        """Waits for it. One of those who wait always knows of the next one: whoever takes it wakes another."""
        with self._changed:
            while not self._due or self._due[0][0] > self._clock.now_ms():
                left_s = (self._due[0][0] - self._clock.now_ms()) / 1000 if self._due else NAP_S
                self._changed.wait(max(0.0, min(left_s, NAP_S)))
            due_ms, place = heappop(self._due)
            self._changed.notify()
        TALLY.set(LATENESS, max(0, self._clock.now_ms() - due_ms) / 1000)
        return place

    def _put_back(self, due_ms: int, place: int) -> None:
        with self._changed:
            heappush(self._due, (due_ms, place))
            self._changed.notify()
