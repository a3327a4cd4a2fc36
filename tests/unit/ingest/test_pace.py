"""How fast a venue is asked, on a clock that moves only when it is told to."""

from __future__ import annotations

import time
from threading import Thread

import pytest

from services.ingest.pace import Pace


class PacedClock:
    """Seconds; whoever waits for a pace on it moves it by as much."""

    def __init__(self) -> None:
        self.at_s = 0.0

    def now_s(self) -> float:
        return self.at_s

    def wait(self, seconds: float | None) -> None:
        assert seconds is not None, "nobody else is there to be waited for"
        self.at_s += seconds


@pytest.fixture
def clock() -> PacedClock:
    return PacedClock()


def pace_on(clock: PacedClock, requests_per_minute: int, monkeypatch: pytest.MonkeyPatch) -> Pace:
    pace = Pace(requests_per_minute, clock.now_s)
    monkeypatch.setattr(pace._moved_on, "wait", clock.wait)
    return pace


def test_requests_go_out_evenly_and_the_first_at_once(clock: PacedClock, monkeypatch: pytest.MonkeyPatch) -> None:
    pace = pace_on(clock, 60, monkeypatch)
    sent_at = []
    for _ in range(4):
        pace.wait(1, goes_first=False)
        sent_at.append(clock.at_s)
    assert sent_at == [0, 1, 2, 3]


def test_what_takes_several_requests_holds_up_the_next_for_as_long(
    clock: PacedClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    pace = pace_on(clock, 120, monkeypatch)
    assert [pace.wait(requests, goes_first=False) for requests in (4, 2, 1)] == [0, 2, 1]


def test_time_in_which_nothing_was_asked_is_not_made_up_for(clock: PacedClock, monkeypatch: pytest.MonkeyPatch) -> None:
    pace = pace_on(clock, 60, monkeypatch)
    pace.wait(1, goes_first=False)
    clock.at_s = 1000
    assert [pace.wait(1, goes_first=False) for _ in range(3)] == [0, 1, 1]


def test_who_waits_goes_in_order_and_what_people_wait_for_before_all_others(clock: PacedClock) -> None:
    pace = Pace(6000, clock.now_s)  # those who wait look every few milliseconds
    pace.wait(1, goes_first=False)
    went: list[str] = []

    def ask(name: str, goes_first: bool) -> None:
        pace.wait(1, goes_first=goes_first)
        went.append(name)
        if len(went) < 4:
            clock.at_s += 0.01

    threads = []
    for name in ("first", "second", "third", "a person"):
        threads.append(Thread(target=ask, args=(name, name == "a person"), daemon=True))
        threads[-1].start()
        eventually_waiting(pace, len(threads))
    clock.at_s += 0.01
    for thread in threads:
        thread.join(30)
    assert went == ["a person", "first", "second", "third"]


def eventually_waiting(pace: Pace, count: int) -> None:
    deadline = time.monotonic() + 30
    while len(pace._waiting) < count:
        assert time.monotonic() < deadline, "they never began to wait"
        time.sleep(0.002)
