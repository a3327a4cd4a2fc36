"""A backtest's forecasts made by the workers of the queue, wherever they run.

A few moments for each worker are handed out at a time, so that little waits in Redis and little is left behind by a run
that is interrupted: what waits is then called off, and what a worker was at is there for the next run to collect.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Sequence
from contextlib import suppress
from functools import partial
from typing import TypeVar

from services.inference.backtest.run import Maker
from shared.backtest_queue import BacktestQueue, Line, Moment
from shared.errors import KronosLiveError, StoreUnavailableError

FOR_EACH_WORKER = 8  # moments handed out at a time: enough for one to be busy until we look again
COLLECT_EVERY_S = 0.1
LOOK_EVERY_S = 2.0  # for workers that come and go, and for jobs that fail
PATIENCE_S = 60.0  # with an absent Redis, and with workers that are called silent: they may be started again

T = TypeVar("T")


def over_workers(queue: BacktestQueue, now_ms: Callable[[], int], tell: Callable[[int], None]) -> Maker:
    """`now_ms` is our own clock, UTC ms; `tell` hears how many workers there are. Raises KronosLiveError where there is none
    when it begins, where none is left, or where a forecast fails for good.
    """

    def make(moments: Sequence[Moment]) -> Generator[Line, None, None]:
        if moments:
            yield from _Spread(queue, now_ms, tell).lines(moments)

    return make


def _through_outages(ask: Callable[[], T]) -> T:
    """What a question to Redis gives, asked again for a while where it does not answer. Raises StoreUnavailableError."""
    give_up = time.monotonic() + PATIENCE_S
    while True:
        try:
            return ask()
        except StoreUnavailableError:
            if time.monotonic() > give_up:
                raise
            time.sleep(1)


class _Spread:
    def __init__(self, queue: BacktestQueue, now_ms: Callable[[], int], tell: Callable[[int], None]) -> None:
        self._queue = queue
        self._now_ms = now_ms
        self._tell = tell
        self._out: dict[str, Moment] = {}  # handed out, by job
        self._workers = 0
        self._nobody_since: float | None = None
        self._stranded: set[str] = set()  # when we last looked

    def lines(self, moments: Sequence[Moment]) -> Generator[Line, None, None]:
        self._model = moments[0].request.model
        self._refuse_without_workers()
        left, next_look = iter(moments), 0.0
        try:
            while True:
                if time.monotonic() >= next_look:
                    _through_outages(self._look_after)
                    next_look = time.monotonic() + LOOK_EVERY_S
                while len(self._out) < FOR_EACH_WORKER * max(1, self._workers) and (moment := next(left, None)):
                    _through_outages(partial(self._hand_out, moment))
                if not self._out:
                    return
                collected = _through_outages(lambda: self._queue.collect(list(self._out)))
                for job_id, line in collected:
                    del self._out[job_id]
                    yield line
                if not collected:
                    time.sleep(COLLECT_EVERY_S)
        finally:
            with suppress(StoreUnavailableError):  # then the workers make what waits, for the next run to collect
                self._queue.call_off(list(self._out))

    def _hand_out(self, moment: Moment) -> None:
        """Unless its line is there already, from a run that was interrupted."""
        self._out[moment.job_id] = moment
        if not self._queue.is_finished(moment.job_id):
            self._queue.hand_out(moment)

    def _look_after(self) -> None:
        for reason in self._queue.failed(list(self._out)).values():
            raise KronosLiveError(f"A worker could not make a forecast of the backtest: {reason}")
        for job_id in self._queue.lost(list(self._out)):
            self._queue.hand_out(self._out[job_id])
        stranded = self._queue.stranded(list(self._out))
        self._queue.put_back(sorted(stranded & self._stranded))
        self._stranded = stranded
        self._count_workers()

    def _count_workers(self) -> None:
        self._workers = self._queue.workforce(self._model, self._now_ms()).at_hand
        self._tell(self._workers)
        if self._workers:
            self._nobody_since = None
            return
        self._nobody_since = self._nobody_since or time.monotonic()
        if time.monotonic() - self._nobody_since > PATIENCE_S:
            raise KronosLiveError(
                f"No worker has given a sign of life for minutes: start one with `{self._queue.worker_command(self._model)}` and "
                f"run the same command again, which goes on where this one was."
            )

    def _refuse_without_workers(self) -> None:
        self._workers = self._queue.workforce(self._model, self._now_ms()).at_hand
        if not self._workers:
            raise KronosLiveError(
                f"No worker is alive to spread this backtest over: start one with "
                f"`{self._queue.worker_command(self._model)}`, or leave out --workers to compute here."
            )
