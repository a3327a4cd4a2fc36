"""Who wants a folder of Redis' data that somebody who was killed had: what that one left behind is waited for, or named."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from redis import Redis

from services import local_redis
from services.local_redis import SOCKET, alone_in, redis_for_this_run, redis_server_binary
from shared.errors import SettingsError
from tests.conftest import PROJECT
from tests.processes import eventually

# Holds the folder as its first words say, and has a child that keeps the lock's file open for some seconds longer.
HOLDER = """
import os, sys, time
from pathlib import Path
from services.local_redis import alone_in
with alone_in(Path(sys.argv[1]), "wait"):
    if os.fork() == 0:
        time.sleep(float(sys.argv[2]))
        os._exit(0)
    print("held", flush=True)
    time.sleep(600)
"""


@contextmanager
def holder(folder: Path, child_lives_s: float) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(folder), str(child_lives_s)], cwd=PROJECT, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout
            assert process.stdout.readline() == "held\n"
            yield process
        finally:
            process.kill()


def test_what_a_killed_one_left_is_waited_for(tmp_path: Path) -> None:
    with holder(tmp_path, child_lives_s=3) as process:
        with (
            pytest.raises(SettingsError, match=r"Another Kronos Live uses .*: end it first."),
            alone_in(tmp_path, "end it first"),
        ):
            pytest.fail("it is held")
        process.kill()
        process.wait()
        with alone_in(tmp_path, "end it first"):
            pass


def test_what_does_not_end_is_not_waited_for_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_redis, "ENDS_WITHIN_S", 1)
    with holder(tmp_path, child_lives_s=20) as process:
        process.kill()
        process.wait()
        with pytest.raises(SettingsError, match="Another Kronos Live uses "), alone_in(tmp_path, "end it first"):
            pytest.fail("it is held")


def test_a_redis_that_still_listens_there_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_redis, "ENDS_WITHIN_S", 1)
    server = subprocess.Popen(
        [redis_server_binary(), "--port", "0", "--unixsocket", str(tmp_path / SOCKET), "--dir", str(tmp_path)],
        stdout=subprocess.DEVNULL,
    )
    try:
        eventually((tmp_path / SOCKET).exists, 30)
        with (
            pytest.raises(
                SettingsError, match=r"A Redis that an earlier Kronos Live has left behind uses .*: end it first."
            ),
            alone_in(tmp_path, "end it first"),
        ):
            pytest.fail("two servers would write the same files")
    finally:
        server.terminate()
        server.wait(timeout=60)
    with redis_for_this_run(tmp_path, "end it first") as address, Redis.from_url(address) as client:
        assert client.ping()
