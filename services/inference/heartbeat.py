"""A worker's thread beside its jobs: gives its sign of life, and looks whether others still give theirs.

So neither depends on how often a job tells its progress, nor on whether anybody waits for a job. Knows no job.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from threading import Event, Thread

from shared.errors import StoreUnavailableError
from shared.logs import get_logger
from shared.lost_work import SIGN_EVERY_S, LostWork

log = get_logger(__name__)


class Heartbeat:
    """`beat` tells Redis once that this worker and what it is at are alive, or raises StoreUnavailableError."""

    def __init__(self, beat: Callable[[], None], watches: Sequence[LostWork]) -> None:
        self._beat = beat
        self._watches = watches
        self._ended = Event()
        self._redis_away = False

    def start(self) -> None:
        Thread(target=self._run, name="heartbeat", daemon=True).start()

    def end(self) -> None:
        self._ended.set()

    def _run(self) -> None:
        while not self._ended.wait(SIGN_EVERY_S):
            try:
                self._once()
            except Exception:  # of whatever kind: without a heartbeat this worker would be held for lost
                log.exception("heartbeat_failed")

    def _once(self) -> None:
        try:
            self._beat()  # first: where Redis takes nothing down, nobody's silence means anything
            for watch in self._watches:
                for job_id in watch.look():
                    log.warning("forecast_given_back", forecast=job_id, reason="its worker ended before it did")
        except StoreUnavailableError as error:
            for watch in self._watches:
                watch.forget()
            log.warning("heartbeat_cannot_be_told", reason=error.message)
            self._redis_away = True
            return
        if self._redis_away:
            log.info("heartbeat_told_again")
        self._redis_away = False
