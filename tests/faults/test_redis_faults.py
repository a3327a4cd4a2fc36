"""Redis fails under a running stack as a candle is due: everybody says so, and when Redis is back the candle's forecast is
made, once, of what the venue told, without anything being started anew.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from shared.klines import Interval
from tests.conftest import free_port
from tests.faults.redis_faults import FaultyRedis
from tests.processes import Service, eventually, service
from tests.tiny_models import write_tiny_models
from tests.venue_server import VenueServer
from tests.web_server import stores_on, web_server

pytestmark = pytest.mark.slow

# By each fault a series of its own, so that the stack can go on from one to the next.
FAULTS = {
    "memory is full": (FaultyRedis.fill, "BTCUSDT", Interval.H1),
    "it has become a replica": (FaultyRedis.become_a_replica, "ETHUSDT", Interval.H1),
    "its password has changed": (FaultyRedis.change_the_password, "SOLUSDT", Interval.H1),
    "it hangs": (FaultyRedis.stop, "BTCUSDT", Interval.H2),
    "its writes are paused for a fail-over": (FaultyRedis.pause_writes, "ETHUSDT", Interval.H2),
    "it was killed and started again": (FaultyRedis.die, "SOLUSDT", Interval.H2),
    "it comes back with nothing": (FaultyRedis.lose_everything, "BTCUSDT", Interval.H4),
}


@dataclass
class Stack:
    redis: FaultyRedis
    worker: Service
    web: httpx.Client
    environment: dict[str, str]
    folder: Path

    def redis_is_ready(self) -> bool:
        """What /readyz says of Redis."""
        return bool(self.web.get("/readyz").json()["checks"]["redis"]["ok"])


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("stack")
    redis = FaultyRedis(free_port(), folder)
    with VenueServer(real=False) as venue:
        environment = {
            "KRONOS_REDIS__URL": f"redis://127.0.0.1:{redis.port}/0",
            "KRONOS_MODEL__LOCAL_DIR": str(write_tiny_models(folder / "models")),
            "KRONOS_MODEL__ALLOW_HUB": "false",
            "KRONOS_WORKER__THREADS": "1",
            "KRONOS_DATA__VENUES": "binance",
            "KRONOS_VENUES__BINANCE_URLS": venue.url,
            "KRONOS_DATA__ALLOW_SIMULATED": "false",
        }
        with (
            service("worker", environment, folder) as worker,
            web_server(environment["KRONOS_REDIS__URL"], folder) as web,
        ):
            worker.wait_for_log("worker_ready")
            with httpx.Client(base_url=web[0], timeout=30, trust_env=False) as client:
                yield Stack(redis, worker, client, environment, folder)
    redis.end()


@pytest.mark.parametrize("fault", FAULTS)
def test_the_forecast_is_made_once_when_redis_is_of_use_again(
    stack: Stack, fault: str, record_property: Callable[[str, object], None]
) -> None:
    put_on, symbol, interval = FAULTS[fault]
    eventually(stack.redis_is_ready, 30)
    told_before = len(stack.worker.log())
    lift = put_on(stack.redis)
    series = {"KRONOS_DATA__SYMBOL": symbol, "KRONOS_DATA__INTERVAL": str(interval)}
    with service("ingest", {**stack.environment, **series}, stack.folder) as ingest:
        try:
            ingest.wait_for_log("Redis cannot be used at the moment")
            eventually(lambda: not stack.redis_is_ready(), 30)
            worker_says = ("redis_refuses", "waiting_for_redis", "heartbeat_cannot_be_told", "could not connect")
            eventually(
                lambda: any(one in stack.worker.log()[told_before:] for one in worker_says), 60, stack.worker.log
            )
        finally:
            lift()
            lifted = time.monotonic()
        stores = stores_on(stack.redis.client)
        eventually(lambda: stores.forecasts.scheduled_ids(symbol, interval, "live"), 90, stack.worker.log)
        record_property("recovery_s", time.monotonic() - lifted)
        [made] = stores.forecasts.scheduled_ids(symbol, interval, "live")
        forecast, status = stores.forecasts.load(made), stores.klines.status(symbol, interval)
        assert status is not None
        assert (status.state, status.last_open_time_ms) == ("live", forecast.last_open_time_ms)
        assert (forecast.provenance.venue, forecast.provenance.origin) == ("binance", "live")
        stored = [line for line in stack.worker.log().splitlines() if '"forecast_stored"' in line and made in line]
        assert len(stored) == 1
        eventually(stack.redis_is_ready, 30)
        eventually(lambda: stores.queue.workers() == 1, 30, stack.worker.log)
        assert stack.worker.process.poll() is None
        assert ingest.process.poll() is None
