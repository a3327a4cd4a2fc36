"""A backtest's forecasts made on this machine: in this process, or in several that share its cores."""

from __future__ import annotations

import os
import signal
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import get_context, parent_process
from threading import Thread

from services.inference.backtest.run import Maker
from services.inference.forecaster import Forecaster
from services.inference.memory import keep_freed_memory
from services.inference.past_forecasts import forecast_and_score
from services.inference.processors import cores_available
from shared.backtest_queue import Line, Moment
from shared.errors import KronosLiveError
from shared.settings import Settings

AHEAD = 4  # moments handed out beyond those that are worked on


def on_this_machine(settings: Settings, jobs: int) -> Maker:
    """In `jobs` processes; one is this very process."""

    def make(moments: Sequence[Moment]) -> Generator[Line, None, None]:
        yield from _alone(moments, settings) if jobs == 1 else _together(moments, settings, jobs)

    return make


def _alone(moments: Sequence[Moment], settings: Settings) -> Iterator[Line]:
    if moments:
        _begin(settings, cores_available())
    for moment in moments:
        yield _make(moment)


def _together(moments: Sequence[Moment], settings: Settings, jobs: int) -> Iterator[Line]:
    with _processes(settings, jobs) as pool:
        left, running = iter(moments), set[Future[Line]]()
        while True:
            for moment in left:
                running.add(pool.submit(_make, moment))
                if len(running) >= jobs + AHEAD:
                    break
            if not running:
                return
            done, running = wait(running, return_when=FIRST_COMPLETED)
            for one in done:
                try:
                    line = one.result()
                except BrokenProcessPool:
                    raise KronosLiveError(
                        "A process of the backtest was killed, perhaps for want of memory: run the same command again, which "
                        "goes on where this one was, with fewer --jobs."
                    ) from None
                yield line


@contextmanager
def _processes(settings: Settings, jobs: int) -> Iterator[ProcessPoolExecutor]:
    threads = max(1, cores_available() // jobs)
    pool = ProcessPoolExecutor(jobs, get_context("spawn"), _begin_beside, (settings, threads))
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


_forecaster: Forecaster | None = None


def _begin_beside(settings: Settings, threads: int) -> None:
    """Once in each process of a pool; it ends with the process that started it, which may be killed, and to which Ctrl+C
    is left.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    Thread(target=_end_with_parent, daemon=True).start()
    _begin(settings, threads)


def _end_with_parent() -> None:
    parent = parent_process()
    assert parent is not None  # noqa: S101 - a pool's process has one
    parent.join()
    os._exit(1)


def _begin(settings: Settings, threads: int) -> None:
    """Load the model."""
    global _forecaster  # noqa: PLW0603 - a pool's process keeps what it loaded
    keep_freed_memory()
    _forecaster = Forecaster(settings)
    _forecaster.use_threads(threads)


def _make(moment: Moment) -> Line:
    assert _forecaster is not None  # noqa: S101 - _begin ran before
    return forecast_and_score(_forecaster, moment, lambda *_: None)
