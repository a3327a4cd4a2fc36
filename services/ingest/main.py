"""Ingest's entry point: connects, wires the parts together, and runs until it is told to stop."""

from __future__ import annotations

import signal
import time

from services.ingest.cycle import Cycle
from services.ingest.market import Market
from services.ingest.turns import Turns
from services.ingest.venue_clock import VenueClock
from shared.forecast_queue import ForecastQueue
from shared.forecast_store import ForecastStore
from shared.kline_store import KlineStore
from shared.logs import configure_logs, get_logger
from shared.redis_connection import connect
from shared.settings import Settings

log = get_logger(__name__)


def run(settings: Settings) -> None:
    """Ingest the configured series until SIGTERM or SIGINT. Raises SettingsError where it cannot start."""
    configure_logs(settings.logs, "ingest")
    # Whatever ingest waits for, a signal ends it at once: each write to Redis is one step, and the next start repeats
    # what was left out.
    for stop in (signal.SIGTERM, signal.SIGINT):
        signal.signal(stop, signal.default_int_handler)
    series = f"{settings.data.symbol} {settings.data.interval}"
    log.info("ingest_started", series=series, venues=settings.data.venues)
    try:
        build_turns(settings).run_forever()
    except KeyboardInterrupt:
        log.info("ingest_stopped")


def build_turns(settings: Settings) -> Turns:
    """All parts of ingest on the real clock and the configured Redis."""
    redis = connect(settings.redis)
    clock = VenueClock(_now_ms)
    cycle = Cycle(
        settings,
        market=Market(settings, clock, _now_ms),
        clock=clock,
        klines=KlineStore(redis, settings.retention.snapshots_per_series),
        forecasts=ForecastStore(redis, settings.retention.forecasts_per_series),
        queue=ForecastQueue(redis, settings.queue),
    )
    return Turns(cycle, settings.data.interval, settings.venues.settle_seconds, clock, time.sleep)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
