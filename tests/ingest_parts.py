"""Ingest put together for tests: real venues over HTTP, a real Redis, and a clock that moves only when it is told to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from redis import Redis

from services.ingest.cycle import Cycle
from services.ingest.market import Market
from services.ingest.turns import Turns
from services.ingest.venue_clock import VenueClock
from shared.forecast_queue import ForecastQueue
from shared.forecast_store import ForecastStore
from shared.kline_store import KlineStore, SeriesStatus
from shared.settings import Settings
from tests.builders import settings as delivered_settings
from tests.conftest import free_port

NOON_MS = 1_795_435_205_000  # 2026-11-23 12:00:05 UTC, when the candle of 11:00 is fetched
HOUR_MS = 3_600_000


@dataclass
class Clock:
    """UTC ms; waiting moves it at once, and what was waited for is kept."""

    at_ms: int = NOON_MS
    waits: list[float] = field(default_factory=list)

    def now_ms(self) -> int:
        return self.at_ms

    def wait(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.at_ms += round(seconds * 1000)


def nowhere() -> str:
    """An address where nobody listens."""
    return f"http://127.0.0.1:{free_port()}"


def ingest_settings(*binance_urls: str, okx: str = "", bybit: str = "", **data: Any) -> Settings:
    """The delivered settings with these addresses; `data` replaces knobs of the data section.

    A venue without an address is not asked. Without data.allow_simulated, nothing is made up.
    """
    delivered = delivered_settings()
    asked = [name for name, there in (("binance", binance_urls), ("okx", okx), ("bybit", bybit)) if there]
    knobs = {"venues": tuple(asked), "allow_simulated": False, **data}
    venues = {"binance_urls": binance_urls, "okx_url": okx, "bybit_url": bybit, "search_seconds": 30.0}
    return replaced(delivered, data=knobs, venues=venues)


def replaced(base: Settings, **sections: dict[str, Any]) -> Settings:
    """Settings with some knobs replaced, without a second look at the environment."""
    changed = {name: getattr(base, name).model_copy(update=knobs) for name, knobs in sections.items()}
    return base.model_copy(update=changed)


class Ingest:
    """All parts of one ingest on a test's Redis and clock."""

    def __init__(self, settings: Settings, redis: Redis, clock: Clock) -> None:
        self.settings = settings
        self.clock = clock
        self.klines = KlineStore(redis, settings.retention.snapshots_per_series)
        self.forecasts = ForecastStore(redis, settings.retention.forecasts_per_series)
        self.queue = ForecastQueue(redis, settings.queue)
        venue_clock = VenueClock(clock.now_ms)
        self.market = Market(settings, venue_clock, clock.now_ms)
        self.cycle = Cycle(
            settings,
            market=self.market,
            clock=venue_clock,
            klines=self.klines,
            forecasts=self.forecasts,
            queue=self.queue,
            settle_seconds=settings.venues.settle_seconds,
        )
        self.venue_clock = venue_clock
        self.turns = Turns(self.cycle, venue_clock)

    def turns_until(self, done: Callable[[], bool]) -> None:
        """Take turns on the test's clock until something is so when one has ended."""
        while True:
            due_ms = self.turns.take()
            if done():
                return
            if (left_ms := due_ms - self.venue_clock.now_ms()) > 0:
                self.clock.wait(left_ms / 1000)

    def take(self, expected_open_ms: int | None, until_ms: int, seen: Callable[[], object] = lambda: None) -> bool:
        """One candle's turn on the test's clock; False if `until_ms` comes first. `seen` is called before each wait."""
        brought: list[bool] = []
        run = self.cycle.run
        self.cycle.run = lambda expected: brought.append(run(expected)) or brought[-1]  # type: ignore[func-returns-value, method-assign]
        self.turns.begin(expected_open_ms, until_ms)
        try:
            while (due_ms := self.turns.take()) < until_ms and not any(brought):
                seen()
                self.clock.wait((due_ms - self.venue_clock.now_ms()) / 1000)
        finally:
            self.cycle.run = run  # type: ignore[method-assign]
        return any(brought)

    @property
    def status(self) -> SeriesStatus:
        status = self.klines.status(self.settings.data.symbol, self.settings.data.interval)
        assert status is not None
        return status
