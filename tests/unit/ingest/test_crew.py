"""Who takes which turns when: real threads, and turns that only note that they were taken."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from threading import Event, Lock, Thread, get_ident

from services.ingest.crew import Crew
from services.ingest.venue_clock import VenueClock

NEVER_MS = 1 << 60


class NotedTurns:
    """Says when it is due next by `then`; whoever takes it is noted."""

    def __init__(self, name: str, taken: list[str], then: Callable[[], int], hold: Event | None = None) -> None:
        self._name, self._taken, self._then, self._hold = name, taken, then, hold
        self.takers: set[int] = set()

    def take(self) -> int:
        self.takers.add(get_ident())
        self._taken.append(self._name)
        if self._hold:
            self._hold.wait(30)
        return self._then()


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def at_work(turns: list[NotedTurns], hands: int) -> None:
    crew = Crew(turns, VenueClock(now_ms))  # type: ignore[arg-type]
    for _ in range(hands):
        Thread(target=crew.work_forever, daemon=True).start()


def eventually(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "it never came to that"
        time.sleep(0.005)


def test_all_are_taken_at_once_in_the_order_in_which_they_are_given() -> None:
    taken: list[str] = []
    at_work([NotedTurns(f"{place}", taken, lambda: NEVER_MS) for place in range(100)], hands=1)
    eventually(lambda: len(taken) == 100)
    assert taken == [f"{place}" for place in range(100)]


def test_a_few_threads_take_many_turns_and_each_turn_once_at_a_time() -> None:
    counted: Counter[str] = Counter()
    inside: set[str] = set()
    twice: list[str] = []
    lock = Lock()

    class Busy:
        def __init__(self, name: str) -> None:
            self._name = name

        def take(self) -> int:
            with lock:
                if self._name in inside:
                    twice.append(self._name)
                inside.add(self._name)
            time.sleep(0.001)
            with lock:
                inside.remove(self._name)
                counted[self._name] += 1
                return now_ms() if counted[self._name] < 5 else NEVER_MS

    at_work([Busy(f"{place}") for place in range(60)], hands=4)  # type: ignore[misc]
    eventually(lambda: len(counted) == 60 and set(counted.values()) == {5})
    assert not twice


def test_one_that_hangs_holds_up_none_while_another_thread_is_free() -> None:
    taken: list[str] = []
    hold = Event()
    hangs = NotedTurns("hangs", taken, lambda: NEVER_MS, hold)
    goes_on = NotedTurns("goes on", taken, lambda: now_ms() + 20)
    try:
        at_work([hangs, goes_on], hands=2)
        eventually(lambda: taken.count("goes on") >= 5)
        assert taken.count("hangs") == 1
        assert not hangs.takers & goes_on.takers
    finally:
        hold.set()


def test_one_that_is_due_soon_is_not_overlooked_by_those_who_wait_for_a_later_one() -> None:
    taken: list[str] = []
    hold = Event()
    due = iter([0, 50, 100])
    later = NotedTurns("later", taken, lambda: now_ms() + 3_600_000)
    soon = NotedTurns("soon", taken, lambda: now_ms() + next(due, NEVER_MS))
    busy = NotedTurns("busy", taken, lambda: NEVER_MS, hold)
    try:
        at_work([later, busy, soon], hands=3)
        eventually(lambda: taken.count("soon") == 4)
    finally:
        hold.set()
