"""A running stack to break: venue, Redis, worker and web, and an ingest for whichever series a test wants kept up."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np

from services.web.situation import Stores
from shared.forecasts import Forecast
from shared.klines import Interval, KlineWindow
from tests.conftest import free_port
from tests.faults.redis_faults import FaultyRedis
from tests.faults.venue_time import VenueTime
from tests.processes import Service, eventually, service
from tests.tiny_models import write_tiny_models
from tests.venue_server import VenueServer
from tests.web_server import stores_on, web_server


@dataclass
class Stack:
    redis: FaultyRedis
    venue: VenueServer
    venue_time: VenueTime
    worker: Service
    web: httpx.Client
    environment: dict[str, str]
    folder: Path

    @property
    def stores(self) -> Stores:
        return stores_on(self.redis.client)

    def ingest(self, symbol: str, interval: Interval) -> AbstractContextManager[Service]:
        series = {"KRONOS_DATA__SYMBOL": symbol, "KRONOS_DATA__INTERVAL": str(interval)}
        return service("ingest", {**self.environment, **series}, self.folder)

    def redis_is_ready(self) -> bool:
        """What /readyz says of Redis."""
        return bool(self.web.get("/readyz").json()["checks"]["redis"]["ok"])

    def made_once(self, symbol: str, interval: Interval, forecasts: int = 1) -> Forecast:
        """The newest forecast of a series, once so many of its candles have theirs: of the candle that the venue holds to be
        the last, of the venue's own klines, and stored by the worker no more than once.
        """
        due = interval.open_time(self.venue_time()) - interval.ms
        eventually(lambda: len(self._ids(symbol, interval)) >= forecasts, 90, self.worker.log)
        ids = self._ids(symbol, interval)
        assert len(ids) == forecasts
        eventually(lambda: self.stores.queue.status(ids[-1]).state == "finished", 60, self.worker.log)
        assert [self.worker.times_stored(one) for one in ids] == [1] * forecasts
        forecast, status = self.stores.forecasts.load(ids[-1]), self.stores.klines.status(symbol, interval)
        assert status is not None
        assert (status.state, status.last_open_time_ms) == ("live", forecast.last_open_time_ms)
        assert forecast.last_open_time_ms == due
        assert (forecast.request.symbol, forecast.request.interval) == (symbol, interval)
        assert (forecast.provenance.venue, forecast.provenance.origin) == ("binance", "live")
        window = self.stores.klines.load(forecast.provenance.snapshot_id)
        assert window.content_hash() == forecast.provenance.snapshot_sha256
        np.testing.assert_allclose(window.values, self._told_by_venue(window), rtol=0, atol=1e-8)
        return forecast

    def mend(self) -> None:
        """Whatever a test has broken and not mended, as one that failed."""
        self.venue.faults.clear()
        self.redis.proxy.delay_s = 0

    def _told_by_venue(self, window: KlineWindow) -> np.ndarray:
        series = self.venue.series(window.symbol, window.interval)
        assert series is not None
        rows = series.rows(int(window.open_times_ms[0]), window.last_open_time_ms)
        return np.array([row[1:] for row in rows])

    def _ids(self, symbol: str, interval: Interval) -> list[str]:
        return self.stores.forecasts.scheduled_ids(symbol, interval, "live")


@contextmanager
def running_stack(folder: Path) -> Iterator[Stack]:
    redis, venue_time = FaultyRedis(free_port(), folder), VenueTime()
    try:
        with VenueServer(venue_time, real=False) as venue:
            environment = {
                "KRONOS_REDIS__URL": f"redis://127.0.0.1:{redis.proxy.port}/0",
                "KRONOS_MODEL__LOCAL_DIR": str(write_tiny_models(folder / "models")),
                "KRONOS_MODEL__ALLOW_HUB": "false",
                "KRONOS_WORKER__THREADS": "1",
                "KRONOS_DATA__VENUES": "binance",
                "KRONOS_VENUES__BINANCE_URLS": venue.url,
                "KRONOS_VENUES__SETTLE_SECONDS": "1",
                "KRONOS_VENUES__SEARCH_SECONDS": "6",  # as delivered: how long recovery takes depends on it
                "KRONOS_DATA__ALLOW_SIMULATED": "false",
            }
            url = environment["KRONOS_REDIS__URL"]
            with service("worker", environment, folder) as worker, web_server(url, folder) as (address, _):
                worker.wait_for_log("worker_ready")
                with httpx.Client(base_url=address, timeout=30, trust_env=False) as client:
                    yield Stack(redis, venue, venue_time, worker, client, environment, folder)
    finally:
        redis.end()
