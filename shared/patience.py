"""Work in the background: waited for no longer than it may take, or several side by side until one of them ends.

Its threads are daemons: what hangs where no timeout of its own reaches it, such as the look-up of a name, keeps no process
alive.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from threading import Thread
from typing import NoReturn, TypeVar

# The system may hand a signal to any thread, and Python does what it stands for once the main thread moves: so that one
# never waits for longer than this at a time.
SIGNAL_SEEN_WITHIN_S = 0.5

T = TypeVar("T")


def within(seconds: float, work: Callable[[], T]) -> T:
    """What `work` returns or raises; TimeoutError when that takes longer than `seconds`.

    Work that hangs is left behind and ends by itself some time.
    """
    return _begin(work).result(timeout=seconds)


def side_by_side(works: Sequence[Callable[[], NoReturn]]) -> NoReturn:
    """Do what never returns, each in a thread of its own; raises what one of them raises, which leaves the others behind."""
    begun = [_begin(work) for work in works]
    ended: set[Future[NoReturn]] = set()
    while not ended:
        ended, _ = wait(begun, SIGNAL_SEEN_WITHIN_S, return_when=FIRST_COMPLETED)
    raise ended.pop().exception() or RuntimeError("what never ends has ended")


def _begin(work: Callable[[], T]) -> Future[T]:
    outcome: Future[T] = Future()

    def run() -> None:
        try:
            outcome.set_result(work())
        except BaseException as error:  # handed over to whoever waits
            outcome.set_exception(error)

    Thread(target=run, daemon=True).start()
    return outcome
