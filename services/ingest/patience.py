"""Waiting for work that may hang where no timeout of its own reaches it, such as the look-up of a name."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from threading import Thread
from typing import TypeVar

T = TypeVar("T")


def within(seconds: float, work: Callable[[], T]) -> T:
    """What `work` returns or raises; TimeoutError when that takes longer than `seconds`.

    Work that hangs is left behind in a daemon thread: it ends by itself some time, and keeps no process alive.
    """
    outcome: Future[T] = Future()

    def run() -> None:
        try:
            outcome.set_result(work())
        except BaseException as error:  # handed over to whoever waits
            outcome.set_exception(error)

    Thread(target=run, name="venue", daemon=True).start()
    return outcome.result(timeout=seconds)
