"""Several series kept up by one ingest: each has its own turns, and they share what a venue has said."""

from __future__ import annotations

import time
from threading import Event

import pytest
from redis import Redis

from services.ingest.market import Market
from services.ingest.venue_clock import VenueClock
from shared.errors import SettingsError, VenueError
from shared.forecast_queue import ForecastQueue
from shared.kline_store import KlineStore
from shared.klines import Interval
from shared.patience import side_by_side
from shared.settings import Series
from tests.builders import settings as delivered
from tests.ingest_parts import Clock, ingest_settings
from tests.integration.test_ingest_cycle import DUE_MS, queued_request, start_ingest, until
from tests.venue_server import VenueServer


def test_a_venue_that_one_series_was_told_to_leave_alone_is_left_alone_by_all(
    server: VenueServer, clock: Clock
) -> None:
    first = Market(ingest_settings(server.url), VenueClock(clock.now_ms), clock.now_ms)
    other = first.of(Series("ETHUSDT", Interval.H4))
    server.fail("429", retry_after=30)
    with pytest.raises(VenueError, match="BTCUSDT 1h"):
        first.find(DUE_MS, may_simulate=False)
    with pytest.raises(VenueError, match=r"ETHUSDT 4h.*left alone for another 30 s"):
        other.find(None, may_simulate=False)
    assert len(server.asked) == 1
    clock.wait(30)
    window = other.find(None, may_simulate=False).window
    assert (window.symbol, window.interval) == ("ETHUSDT", Interval.H4)


def test_the_process_keeps_up_all_configured_series_and_one_that_fails_holds_up_none(
    redis: Redis, redis_url: str
) -> None:
    klines, queue = KlineStore(redis, 10), ForecastQueue(redis, delivered().queue)
    with VenueServer() as server:
        process = start_ingest(
            redis_url,
            KRONOS_VENUES__BINANCE_URLS=server.url,
            KRONOS_DATA__VENUES="binance",
            KRONOS_DATA__SERIES="NOSUCHUSDT:1h, ETHUSDT:4h, BTCUSDT:1h, SOLUSDT:15m",
        )
        try:
            until(lambda: len(klines.all_statuses()) == 4 and queue.waiting() == 3, 60)
        finally:
            process.terminate()
            _, logged = process.communicate(timeout=60)
            process.kill()
    states = {f"{one.symbol} {one.interval}": one.state for one in klines.all_statuses()}
    assert states == {"BTCUSDT 1h": "live", "ETHUSDT 4h": "live", "SOLUSDT 15m": "live", "NOSUCHUSDT 1h": "stale"}
    requests = [queued_request(redis, job_id.decode()) for job_id in redis.lrange("rq:queue:forecasts", 0, -1)]
    assert {(one.symbol, one.interval) for one in requests} == {
        ("BTCUSDT", Interval.H1),
        ("ETHUSDT", Interval.H4),
        ("SOLUSDT", Interval.M15),
    }
    assert process.returncode == 0
    assert '"series": "NOSUCHUSDT 1h"' in logged
    assert "Traceback" not in logged


class Stamped(list[tuple[str, dict[str, str]]]):
    """What a venue was asked, and when (seconds)."""

    def __init__(self) -> None:
        super().__init__()
        self.at_s: list[float] = []

    def append(self, asked: tuple[str, dict[str, str]]) -> None:
        self.at_s.append(time.monotonic())
        super().append(asked)


def test_two_hundred_series_are_asked_for_at_the_pace_and_each_is_forecast_once(redis: Redis, redis_url: str) -> None:
    names = [f"C{place}USDT" for place in range(200)]
    klines = KlineStore(redis, 10)
    with VenueServer(real=False, symbols=names) as server:
        server.asked = asked = Stamped()
        process = start_ingest(
            redis_url,
            KRONOS_VENUES__BINANCE_URLS=server.url,
            KRONOS_VENUES__BINANCE_REQUESTS_PER_MINUTE="2400",
            KRONOS_DATA__VENUES="binance",
            KRONOS_DATA__SYMBOL=names[0],
            KRONOS_DATA__SERIES=",".join(f"{name}:1d" for name in names),
            KRONOS_DATA__INTERVAL="1d",
            KRONOS_METRICS__ENABLED="false",
            KRONOS_LOGS__LEVEL="warning",  # its log is read at the end, and a pipe holds no thousand lines
        )
        try:
            until(lambda: len(klines.all_statuses()) == 200 and redis.llen("rq:queue:forecasts") == 200, 120)
        finally:
            process.terminate()
            _, logged = process.communicate(timeout=60)
            process.kill()
    assert {one.state for one in klines.all_statuses()} == {"live"}, logged
    assert len({job for job in redis.lrange("rq:queue:forecasts", 0, -1)}) == 200
    of_klines = [path for path, _ in asked].count("/api/v3/klines")
    assert of_klines == 400, "two requests for the thousand candles of each, and none again"
    # The last two go out as one; what is said here is how soon they may come at the earliest, with a second for a late first.
    assert asked.at_s[-1] - asked.at_s[0] >= (of_klines - 2) * 60 / 2400 - 1
    assert process.returncode == 0
    assert "Traceback" not in logged


def test_what_ends_one_of_several_ends_all() -> None:
    def waits_forever() -> None:
        Event().wait()

    def cannot_start() -> None:
        raise SettingsError("data.recorded_file names nothing.")

    with pytest.raises(SettingsError, match="names nothing"):
        side_by_side([waits_forever, cannot_start])  # type: ignore[list-item]
