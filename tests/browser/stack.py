"""The whole house as processes of its own, as a person runs it: ingest, a worker, the web service, their Redis and a venue."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from redis import Redis

from shared.forecast_queue import ForecastQueue
from shared.forecast_store import ForecastStore
from shared.forecasts import Forecast
from shared.klines import IngestedOrigin, Interval
from tests.builders import settings
from tests.processes import Service, eventually, service
from tests.web_server import listening_address

EVERYTHING = ("ingest", "worker", "web")


class Stack:
    """Services that can be started, killed and started again; what still runs at the end is ended."""

    def __init__(self, redis: Redis, redis_url: str, venue_url: str, folder: Path, knobs: Mapping[str, str]) -> None:
        self.redis = redis
        self.forecasts = ForecastStore(redis, keep=100)
        self.queue = ForecastQueue(redis, settings().queue)
        self._environment = {
            "KRONOS_REDIS__URL": redis_url,
            "KRONOS_VENUES__BINANCE_URLS": venue_url,
            "KRONOS_VENUES__OKX_URL": venue_url,
            "KRONOS_VENUES__BYBIT_URL": venue_url,
            "KRONOS_MODEL__MODEL_NAME": "Kronos-nano",
            "KRONOS_WORKER__THREADS": "1",
            "KRONOS_WEB__PORT": "0",
            **knobs,
        }
        self._folder = folder
        self._all = ExitStack()
        self._newest: dict[str, Service] = {}

    def start(self, *names: str) -> None:
        """Start services, side by side; a web service listens and a worker is ready before this returns."""
        said_when_ready = {"web": "listening", "worker": "worker_ready"}
        for name in names:
            self._newest[name] = self._all.enter_context(service(name, self._environment, self._folder))
        for name in names:
            if name in said_when_ready:
                self._newest[name].wait_for_log(said_when_ready[name])

    def running(self, name: str) -> Service:
        """The newest process of a service."""
        return self._newest[name]

    @property
    def address(self) -> str:
        return listening_address(self._newest["web"])

    def first_forecast(self, symbol: str = "BTCUSDT", origin: IngestedOrigin = "live") -> Forecast:
        """The schedule's first forecast of a series, waited for."""
        eventually(lambda: self.forecasts.latest_scheduled(symbol, Interval.H1, origin), 90, self.explain)
        forecast = self.forecasts.latest_scheduled(symbol, Interval.H1, origin)
        assert forecast is not None
        return forecast

    def explain(self) -> str:
        return "\n".join(running.log()[-1000:] for running in self._newest.values())

    def end(self) -> None:
        """End all that runs, in good order."""
        for running in self._newest.values():
            running.end()
        self._all.close()


@contextmanager
def stack_on(redis: Redis, redis_url: str, venue_url: str, folder: Path, **knobs: str) -> Iterator[Stack]:
    """A stack of which nothing runs yet."""
    stack = Stack(redis, redis_url, venue_url, folder, knobs)
    try:
        yield stack
    finally:
        stack.end()
