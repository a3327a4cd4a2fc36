"""A process of the house that ends with the house, however that ends.

honcho, where it is killed itself, leaves behind what it started. Between itself and each service it keeps a process that passes
on what the service prints; that is who watches here. It is the service's parent, so it can also end one that knows nothing of
us, as Redis does not. That the house is gone it sees by having another parent: this is so on every system, and needs no open file
that some other process might hold as well.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import threading
import time
from contextlib import suppress
from typing import Any

from honcho.manager import KILL_WAIT
from honcho.process import Process
from redis import Redis
from redis.exceptions import RedisError

REDIS = "redis"  # its name in the Procfile
LOOKS_EVERY_S = 0.5


class KeptProcess(Process):
    """One line of the Procfile; made in the house's own process, run in one that stands between."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._house = os.getpid()

    def run(self, events: Any = None, ignore_signals: bool = False) -> None:
        os.setsid()  # whoever kills the house with its whole group, as a time limit does, is to leave who watches
        # A fork server forks for the house, and ends with it.
        parent = os.getppid() if multiprocessing.get_start_method() == "forkserver" else self._house
        threading.Thread(target=self._end_after, args=(parent,), daemon=True).start()
        super().run(events, ignore_signals)

    def _end_after(self, parent: int) -> None:
        """Once the house is gone, end the service as the house would have: in order, and by force where it takes too long."""
        while os.getppid() == parent or self._child is None:
            time.sleep(LOOKS_EVERY_S)
        if self.name == REDIS:
            _wait_until_unused(self.env["REDIS_SOCKET"])
        self._send(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            self._child.wait(KILL_WAIT)
        self._send(signal.SIGKILL)  # also what it has left of its own
        os._exit(1)  # what it printed at last has no reader, and would be waited for

    def _send(self, sent: signal.Signals) -> None:
        with suppress(ProcessLookupError, PermissionError):  # macOS answers the latter of a group that has ended
            os.killpg(self._child.pid, sent)


def _wait_until_unused(socket: str) -> None:
    """Until the others have stored what they were at, or their time is over."""
    give_up = time.monotonic() + KILL_WAIT + 2 * LOOKS_EVERY_S
    with suppress(RedisError), Redis(unix_socket_path=socket, socket_timeout=KILL_WAIT) as client:
        while client.info("clients")["connected_clients"] > 1 and time.monotonic() < give_up:
            time.sleep(0.1)
