"""Commands that take long and may be stopped: by Ctrl+C or SIGTERM, with one sentence on how to go on."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click


class Stopped(KeyboardInterrupt):
    """SIGTERM, where the command was; it takes the way that Ctrl+C takes."""


@contextmanager
def stopped_in_one_sentence(what_then: Callable[[], str]) -> Iterator[None]:
    """Whoever stops what is inside reads what then is so, on standard error; the exit code is 130, or 143 for SIGTERM, as
    shells count them."""
    in_main = threading.current_thread() is threading.main_thread()  # elsewhere Python lets nobody listen for signals
    before = signal.signal(signal.SIGTERM, _stop) if in_main else None
    try:
        yield
    except KeyboardInterrupt as stopped:
        click.echo(f"kronos-live: stopped; {what_then()}", err=True)
        sys.exit(128 + (signal.SIGTERM if isinstance(stopped, Stopped) else signal.SIGINT))
    finally:
        if in_main:
            signal.signal(signal.SIGTERM, before)


def _stop(*_: object) -> None:
    raise Stopped
