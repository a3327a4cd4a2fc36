"""The web service as a process, shared by the tests of it; each test has an empty Redis behind it."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest
from redis import Redis

from services.web.situation import Stores
from tests.web_server import stores_on, web_server


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
