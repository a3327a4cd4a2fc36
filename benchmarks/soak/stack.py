"""The stack that the soak runs: a venue, a Redis behind a network that can fail, two ingests, two workers and web.

Of each two the first is left alone, so that its memory tells something; the second may be killed, and another comes for it.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from services.web.situation import Stores
from shared.klines import Interval
from tests.conftest import free_port
from tests.faults.redis_faults import FaultyRedis
from tests.processes import Service, service
from tests.tiny_models import write_tiny_models
from tests.venue_server import SYMBOLS, VenueServer
from tests.web_server import listening_address, stores_on

ASKED_INTERVAL = Interval.H1  # people ask for forecasts of these candles
SCHEDULED_INTERVAL = Interval.M1  # the schedule makes most of its own of these
READY_WITHIN_S = 120
DRAINS_WITHIN_S = 120
AT_WORK = {"worker": "worker_ready", "ingest": "klines_fetched", "web": "listening"}  # what each says by then


@dataclass
class SoakStack:
    redis: FaultyRedis
    venue: VenueServer
    environment: dict[str, str]
    folder: Path
    processes: ExitStack
    kept: dict[str, Service] = field(default_factory=dict)
    replaced: dict[str, Service] = field(default_factory=dict)
    workers: list[Service] = field(default_factory=list)  # all that ever ran

    @property
    def stores(self) -> Stores:
        """Of a client that no fault of the network reaches."""
        return stores_on(self.redis.client)

    @property
    def address(self) -> str:
        return listening_address(self.kept["web"])

    def start(self, command: str) -> Service:
        running = self.processes.enter_context(service(command, self.environment, self.folder))
        if command == "worker":
            self.workers.append(running)
        return running

    def replace(self, command: str, sent: signal.Signals) -> None:
        """End the second of two by a signal, and start another at once. Raises RuntimeError where SIGTERM ended it badly."""
        running = self.replaced[command]
        if sent == signal.SIGTERM:  # which means something to one that is at work
            running.wait_for_log(AT_WORK[command], READY_WITHIN_S)
        code = running.end(sent, DRAINS_WITHIN_S)
        if sent == signal.SIGTERM and code:
            raise RuntimeError(f"a {command} that was told to end did so with {code}")
        self.replaced[command] = self.start(command)

    def log_lines(self, words: str) -> list[str]:
        """Of all workers that ever ran."""
        return [line for worker in self.workers for line in worker.log().splitlines() if words in line]


@contextmanager
def soak_stack(folder: Path) -> Iterator[SoakStack]:
    redis = FaultyRedis(free_port(), folder)
    try:
        with VenueServer(real=False) as venue, ExitStack() as processes:
            stack = SoakStack(redis, venue, _environment(redis, venue, folder), folder, processes)
            for command in ("worker", "ingest"):
                stack.kept[command], stack.replaced[command] = stack.start(command), stack.start(command)
            stack.kept["web"] = stack.start("web")
            for command, running in [*stack.kept.items(), *stack.replaced.items()]:
                running.wait_for_log(AT_WORK[command], READY_WITHIN_S)
            for symbol in SYMBOLS:
                stack.kept["ingest"].wait_for_log(f"{symbol} {ASKED_INTERVAL}", READY_WITHIN_S)
            yield stack
    finally:
        redis.end()


def _environment(redis: FaultyRedis, venue: VenueServer, folder: Path) -> dict[str, str]:
    first, *others = [f"{symbol}:{interval}" for interval in (ASKED_INTERVAL, SCHEDULED_INTERVAL) for symbol in SYMBOLS]
    symbol, interval = first.split(":")
    return {
        "KRONOS_REDIS__URL": f"redis://127.0.0.1:{redis.proxy.port}/0",
        "KRONOS_MODEL__LOCAL_DIR": str(write_tiny_models(folder / "models")),
        "KRONOS_MODEL__ALLOW_HUB": "false",
        "KRONOS_WORKER__THREADS": "1",
        "KRONOS_WORKER__FORECASTS_AT_ONCE": "4",
        "KRONOS_SAMPLING__NUM_SAMPLES": "10",
        "KRONOS_DATA__SYMBOL": symbol,
        "KRONOS_DATA__INTERVAL": interval,
        "KRONOS_DATA__SERIES": ", ".join(others),
        "KRONOS_DATA__VENUES": "binance",
        "KRONOS_DATA__ALLOW_SIMULATED": "false",
        "KRONOS_VENUES__BINANCE_URLS": venue.url,
        "KRONOS_VENUES__SETTLE_SECONDS": "1",
        "KRONOS_RETENTION__FORECASTS_PER_SERIES": "1000000",
        "KRONOS_WEB__PORT": "0",
    }
