"""The web service as a process, the command line, and a venue; each test has an empty Redis behind it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from redis import Redis

from services.web.situation import Stores
from tests.conftest import PROJECT
from tests.ingest_parts import Clock
from tests.tiny_models import write_tiny_models
from tests.venue_server import VenueServer
from tests.web_server import stores_on, web_server

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def web_address(redis_port: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("web")
    with web_server(f"redis://127.0.0.1:{redis_port}/0", folder) as (address, _):
        yield address


@pytest.fixture
def web(web_address: str, redis: Redis) -> Iterator[httpx.Client]:
    """A client of the running web service, with nothing in its Redis yet."""
    with httpx.Client(base_url=web_address, timeout=30, trust_env=False) as client:
        yield client


@pytest.fixture
def stores(redis: Redis) -> Stores:
    return stores_on(redis)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def server(clock: Clock) -> Iterator[VenueServer]:
    """A venue that goes by that clock."""
    with VenueServer(clock.now_ms) as server:
        yield server


@pytest.fixture
def environment(redis_url: str, tmp_path: Path) -> dict[str, str]:
    return {
        "KRONOS_REDIS__URL": redis_url,
        "KRONOS_MODEL__LOCAL_DIR": str(write_tiny_models(tmp_path)),
        "KRONOS_MODEL__ALLOW_HUB": "false",
        "KRONOS_WORKER__THREADS": "1",
    }


@pytest.fixture
def run(environment: dict[str, str]) -> Run:
    def typed(*words: str, **knobs: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "services.cli", *words],
            cwd=PROJECT,
            env={**os.environ, **environment, "COLUMNS": "200", **knobs},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    return typed
