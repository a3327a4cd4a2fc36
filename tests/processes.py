"""Our services as real processes, for tests of how they behave together."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tests.conftest import PROJECT

PATIENCE = float(os.environ.get("TEST_PATIENCE", "1"))  # times longer to wait, on a machine that others keep busy
# So that a venue of ours counts as away where a test says so, and not where a busy machine kept its thread waiting.
VENUE_MAY_TAKE = {"KRONOS_VENUES__SEARCH_SECONDS": "30"}


class Service:
    """A running `kronos-live COMMAND`; its log is a file that can be read at any time."""

    def __init__(self, command: str, process: subprocess.Popen[bytes], log: Path) -> None:
        self.command = command
        self.process = process
        self._log = log

    def log(self) -> str:
        return self._log.read_text(errors="replace")

    def wait_for_log(self, words: str, seconds: float = 60) -> None:
        eventually(lambda: words in self.log() or self.process.poll() is not None, seconds, self.log)
        assert words in self.log(), f"{self.command} did not say {words!r}:\n{self.log()[-3000:]}"

    def times_stored(self, forecast_id: str) -> int:
        """How often a worker has stored a forecast, by its log."""
        return sum('"forecast_stored"' in line and f'"{forecast_id}"' in line for line in self.log().splitlines())

    def end(self, sent: signal.Signals = signal.SIGTERM, seconds: float = 30) -> int:
        """Send a signal and return the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(sent)
        return self.process.wait(timeout=seconds)


@contextmanager
def service(command: str, environment: Mapping[str, str], folder: Path) -> Iterator[Service]:
    """Start `kronos-live COMMAND` with these variables; what still runs at the end is ended."""
    log = folder / f"{command.replace(' ', '-')}-{time.monotonic_ns()}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "services.cli", *command.split()],
            cwd=PROJECT,
            env={**os.environ, "KRONOS_LOGS__FORMAT": "json", "PYTHONUNBUFFERED": "1", **VENUE_MAY_TAKE, **environment},
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    running = Service(command, process, log)
    try:
        yield running
    finally:
        if process.poll() is None:
            process.kill()
            process.wait(timeout=60)


def processes_of(mark: str, folder: Path) -> list[str]:
    """Command lines of the processes that carry `mark` (NAME=value) in their environment, wherever they have moved, and of those
    that work in `folder`: Redis writes its title over its environment.
    """
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            marked = mark.encode() in (process / "environ").read_bytes().split(b"\0")
            if marked or (process / "cwd").readlink().is_relative_to(folder.resolve()):
                found.append((process / "cmdline").read_bytes().replace(b"\0", b" ").decode())
        except OSError:
            continue
    return found


def eventually(read: Callable[[], object], seconds: float, explain: Callable[[], str] = str) -> None:
    """Return once `read` gives something true; fail after `seconds` (times PATIENCE), with what `explain` says."""
    deadline = time.monotonic() + seconds * PATIENCE
    while not read():
        assert time.monotonic() < deadline, f"not within {seconds} s: {explain()[-3000:]}"
        time.sleep(0.05)
