"""The faults of a soak: one after another at random, from a seed, each mended before the next strikes."""

from __future__ import annotations

import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

from benchmarks.soak.stack import SoakStack

PAUSE_S = (3.0, 10.0)  # between two faults
LASTS_S = (1.0, 6.0)
BREAKS_APART_S = 0.3
SLOW_S = 0.1  # for each answer of Redis
VENUE_FAULTS: dict[str, dict[str, Any]] = {
    "500": {},
    "429": {"retry_after": 2},
    "cut": {},
    "garbage": {},
    "shape": {},
    "lag": {"back": 0},
    "slow": {"seconds": 7.0},
}

Strike = Callable[[SoakStack, random.Random], object]


def _for_a_while(put_on: Callable[[SoakStack], Callable[[], object]]) -> Strike:
    def strike(stack: SoakStack, rng: random.Random) -> None:
        lift = put_on(stack)
        try:
            time.sleep(rng.uniform(*LASTS_S))
        finally:
            lift()

    return strike


def _worker_hangs(stack: SoakStack) -> Callable[[], object]:
    process = stack.replaced["worker"].process
    process.send_signal(signal.SIGSTOP)
    return lambda: process.send_signal(signal.SIGCONT)


def _connections_break(stack: SoakStack, rng: random.Random) -> None:
    for _ in range(rng.randint(1, 10)):
        stack.redis.proxy.cut()
        time.sleep(BREAKS_APART_S)


def _venue_fails(stack: SoakStack, rng: random.Random) -> None:
    kind = rng.choice(list(VENUE_FAULTS))
    stack.venue.fail(kind, times=rng.randint(1, 4), **VENUE_FAULTS[kind])


FAULTS: dict[str, Strike] = {
    "a worker is killed": lambda stack, _: stack.replace("worker", signal.SIGKILL),
    "a worker is told to end": lambda stack, _: stack.replace("worker", signal.SIGTERM),
    "a worker hangs": _for_a_while(_worker_hangs),
    "an ingest is killed": lambda stack, _: stack.replace("ingest", signal.SIGKILL),
    "an ingest is told to end": lambda stack, _: stack.replace("ingest", signal.SIGTERM),
    "the venue fails": _venue_fails,
    "Redis hangs": _for_a_while(lambda stack: stack.redis.stop()),
    "Redis is killed": _for_a_while(lambda stack: stack.redis.die()),
    "Redis is full": _for_a_while(lambda stack: stack.redis.fill()),
    "Redis pauses writes": _for_a_while(lambda stack: stack.redis.pause_writes()),
    "Redis is slow": _for_a_while(lambda stack: stack.redis.slow_down(SLOW_S)),
    "connections to Redis break": _connections_break,
}


class Faults:
    """Strikes from a thread of its own, between `start` and `end`, which waits until the last one is mended."""

    def __init__(self, stack: SoakStack, rng: random.Random) -> None:
        self.struck: Counter[str] = Counter()
        self.last = "none yet"
        self._stack, self._rng = stack, rng
        self._ended = threading.Event()
        self.error: Exception | None = None  # what went wrong with a fault itself; then no other follows
        self._thread = threading.Thread(target=self._run, name="faults")

    def start(self) -> None:
        self._thread.start()

    def end(self) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._ended.wait(self._rng.uniform(*PAUSE_S)):
            self.last = self._rng.choice(list(FAULTS))
            try:
                FAULTS[self.last](self._stack, self._rng)
            except Exception as error:  # told by whoever runs the soak
                self.error = error
                return
            self.struck[self.last] += 1
