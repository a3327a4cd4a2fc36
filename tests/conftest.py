"""What all tests share: a real Redis of their own, and skips that can be made failures.

`KRONOS_REQUIRE=browser,compose,curl,git,kernels,klines,kubectl,openssl,prometheus,promtool,redis-tls` lists what must be there: a
test that would skip for the lack of it fails.
"""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from redis import Redis
from redis.exceptions import AuthenticationError, RedisError

from services.local_redis import redis_server_binary

PROJECT = Path(__file__).resolve().parent.parent
KLINES = PROJECT.parent / "shared" / "klines"


def skip_or_fail(need: str, reason: str) -> None:
    """Skip a test that lacks `need` (one of those above), or fail it where KRONOS_REQUIRE asks for it."""
    required = {part.strip() for part in os.environ.get("KRONOS_REQUIRE", "").split(",")}
    if need in required:
        pytest.fail(f"KRONOS_REQUIRE names {need}, but {reason}")
    pytest.skip(reason)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def redis_server(folder: Path, *options: str, password: str | None = None, port: int | None = None) -> Iterator[int]:
    """A real Redis, on a free port unless one is named; ended by the handle that started it."""
    port = port or free_port()
    own = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder)]
    secret = ["--requirepass", password] if password else []
    server = subprocess.Popen([str(redis_server_binary()), *own, *secret, *options], stdout=subprocess.DEVNULL)
    try:
        _wait_for_redis(port, password)
        yield port
    finally:
        server.terminate()
        server.wait(timeout=60)


@pytest.fixture(scope="session")
def redis_port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of a Redis for the whole session."""
    with redis_server(tmp_path_factory.mktemp("redis")) as port:
        yield port


def _wait_for_redis(port: int, password: str | None) -> None:
    client = Redis(port=port, password=password)
    for _ in range(100):
        try:
            client.ping()
            return
        except AuthenticationError:
            return  # one with a password answers so
        except RedisError:
            time.sleep(0.05)
    raise RuntimeError(f"the tests' redis-server did not answer on port {port}")


@pytest.fixture
def redis(redis_port: int) -> Iterator[Redis]:
    """A client of the tests' Redis, emptied before each test."""
    with Redis(port=redis_port) as client:
        client.flushall()
        yield client


@pytest.fixture
def redis_url(redis: Redis, redis_port: int) -> str:
    """The address of the tests' Redis, emptied before each test."""
    return f"redis://127.0.0.1:{redis_port}/0"


@pytest.fixture(scope="session")
def klines_folder() -> Path:
    """The folder of real klines; tests that need it are skipped where it is absent."""
    if not KLINES.is_dir():
        skip_or_fail("klines", "the folder ../shared/klines with real klines is not here")
    return KLINES


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No knob of the person who runs the tests leaks into them."""
    for name in list(os.environ):
        if name.startswith("KRONOS_") and name != "KRONOS_REQUIRE":
            monkeypatch.delenv(name)
