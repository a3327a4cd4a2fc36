"""Ingest's entry point: connects, wires the parts together, and runs until it is told to stop.

A crew of a few threads takes the turns of all series; fetches that people ask for have a thread of their own.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from types import FrameType

from services.ingest import fetching
from services.ingest.crew import Crew
from services.ingest.cycle import Cycle
from services.ingest.fetch_worker import FetchDesk
from services.ingest.market import Market
from services.ingest.metrics import TALLY
from services.ingest.schedule import settle_seconds_of
from services.ingest.symbol_lists import SymbolLists
from services.ingest.turns import Turns
from services.ingest.venue_clock import VenueClock
from shared.forecast_queue import ForecastQueue
from shared.forecast_store import ForecastStore
from shared.kline_store import KlineStore
from shared.logs import configure_logs, get_logger
from shared.metrics_server import serve_metrics
from shared.patience import side_by_side
from shared.redis_connection import connect
from shared.settings import Series, Settings
from shared.venue_symbols import VenueSymbols

REDIS_ANSWERS_WITHIN_S = 5  # so that one that hangs is told of and asked again
# Series under way at once: as many as Binance's pace needs where a series takes most of a second, and few enough that a
# machine of one core has nothing to wait for but the venue.
HANDS = 16

log = get_logger(__name__)


def run(settings: Settings) -> None:
    """Ingest all configured series until SIGTERM or SIGINT. Raises SettingsError where it cannot start."""
    configure_logs(settings.logs, "ingest")
    # Whatever ingest waits for, a signal ends it at once: each write to Redis is one step, and the next start repeats
    # what was left out.
    _on_stop(signal.default_int_handler)
    serve_metrics(settings.metrics, "ingest", TALLY.exposition)
    log.info("ingest_started", series=", ".join(map(str, settings.data.all_series)), venues=settings.data.venues)
    clock = VenueClock(_now_ms)
    market = Market(settings, clock, _now_ms)
    desk = build_desk(settings, market)
    crew = Crew(build_turns(settings, market, clock), clock)
    lists = SymbolLists(
        market, VenueSymbols(connect(settings.redis, answer_timeout_s=REDIS_ANSWERS_WITHIN_S)), time.sleep
    )
    try:
        side_by_side(
            [
                desk.run_forever,
                lists.run_forever,
                *[crew.work_forever] * min(HANDS, len(settings.data.all_series)),
            ]
        )
    except KeyboardInterrupt:
        _on_stop(signal.SIG_IGN)  # a Ctrl+C often comes twice: from the terminal, and from what runs us
        desk.give_back()
        log.info("ingest_stopped")


def _on_stop(do: Callable[[int, FrameType | None], object] | signal.Handlers) -> None:
    for stop in (signal.SIGTERM, signal.SIGINT):
        signal.signal(stop, do)


def build_desk(settings: Settings, market: Market) -> FetchDesk:
    """What fetches klines that nobody ingests, when somebody asks for a forecast of them, on the configured Redis."""
    redis = connect(settings.redis)
    klines = KlineStore(redis, settings.retention.snapshots_per_series)
    fetching.equip(fetching.Workbench(settings, market, klines, VenueSymbols(redis), time.sleep))
    return FetchDesk(connect(settings.redis), settings.queue)


def build_turns(settings: Settings, market: Market, clock: VenueClock) -> list[Turns]:
    """The turns of each series, on the real clock and the configured Redis, in the order in which they are taken. All share
    the venues and what these have said: the time, and for how long they want to be left alone.
    """
    redis = connect(settings.redis, answer_timeout_s=REDIS_ANSWERS_WITHIN_S)
    klines = KlineStore(redis, settings.retention.snapshots_per_series)
    forecasts = ForecastStore(redis, settings.retention.forecasts_per_series)
    queue = ForecastQueue(redis, settings.queue)

    def turns_of(series: Series, settle_seconds: float) -> Turns:
        cycle = Cycle(
            settings,
            market=market.of(series),
            clock=clock,
            klines=klines,
            forecasts=forecasts,
            queue=queue,
            settle_seconds=settle_seconds,
        )
        return Turns(cycle, clock)

    settled = settle_seconds_of(settings.data.all_series, settings.venues.settle_seconds, market.seconds_a_series)
    return [turns_of(series, settle_seconds) for series, settle_seconds in settled.items()]


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
