"""The web service as a real process, and stores filled as ingest and a worker would fill them."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

from redis import Redis
from rq import SimpleWorker
from rq.job import Job
from rq.serializers import JSONSerializer
from rq.utils import utcformat

from services.web.situation import Stores
from shared.forecast_queue import ForecastQueue
from shared.forecast_store import ForecastStore
from shared.forecasts import Forecast, ModelSource, scheduled_forecast_id
from shared.kline_store import KlineStore, SeriesStatus
from shared.klines import Interval, KlineWindow, Origin
from tests.builders import finished_forecast, forecast_request, kline_window, settings
from tests.processes import Service, service

HOUR_MS = Interval.H1.ms


@contextmanager
def web_server(redis_url: str, folder: Path, **knobs: str) -> Iterator[tuple[str, Service]]:
    """`kronos-live web` on a free port of its own choice; gives its address and the process."""
    environment = {"KRONOS_REDIS__URL": redis_url, "KRONOS_WEB__PORT": "0", **knobs}
    with service("web", environment, folder) as running:
        running.wait_for_log("listening")
        yield listening_address(running), running
        running.end()


def listening_address(running: Service) -> str:
    """The address that a started web service has logged."""
    lines = [json.loads(line) for line in running.log().splitlines() if line.startswith("{")]
    return next(line["address"] for line in lines if line["event"] == "listening")


def stores_on(redis: Redis) -> Stores:
    return Stores(KlineStore(redis, 10), ForecastStore(redis, 10), ForecastQueue(redis, settings().queue))


def newest_closed_candle(now_ms: int | None = None) -> int:
    """Open time, in UTC ms, of the last hourly candle that has closed."""
    return Interval.H1.open_time(now_ms or time.time_ns() // 1_000_000) - HOUR_MS


def ingested(
    stores: Stores,
    *,
    symbol: str = "BTCUSDT",
    seed: int = 1,
    last_open_time_ms: int | None = None,
    origin: Origin = "live",
    candles: int = 400,
    **said: object,
) -> KlineWindow:
    """A stored snapshot that ends with a candle, and the series' state as ingest writes it; `said` changes the state."""
    last = newest_closed_candle() if last_open_time_ms is None else last_open_time_ms
    venue = "binance" if origin == "live" else origin
    start_ms = last - (candles - 1) * HOUR_MS
    window = kline_window(candles, symbol=symbol, venue=venue, origin=origin, start_ms=start_ms, seed=seed)
    status = {
        "symbol": window.symbol,
        "interval": window.interval,
        "state": origin,
        "venue": venue,
        "origin": origin,
        "ever_live": origin == "live",
        "snapshot_id": stores.klines.save(window),
        "last_open_time_ms": last,
        "checked_at_ms": last + HOUR_MS + 5_000,
        "next_fetch_at_ms": last + 2 * HOUR_MS + 5_000,
        "problem": None,
    }
    series = SeriesStatus.model_validate({**status, **said})
    stores.klines.change_status(series.symbol, series.interval, lambda _: series)
    return window


def forecast_stored(
    stores: Stores, window: KlineWindow, *, source: ModelSource = "local", forecast_id: str | None = None
) -> Forecast:
    """A finished forecast on a window: the schedule's, unless it has an id of its own."""
    snapshot_id = window.content_hash()[:16]
    scheduled = scheduled_forecast_id(window.symbol, window.interval, window.last_open_time_ms, window.origin)
    request = forecast_request(snapshot_id, scheduled=forecast_id is None, symbol=window.symbol)
    forecast, paths = finished_forecast(forecast_id or scheduled, window, request)
    if source == "bundled":
        model = forecast.provenance.model.model_copy(
            update={"name": "Kronos-nano", "source": "bundled", "published": False}
        )
        made = forecast.provenance.model_copy(update={"model": model, "model_stands_in_for": "Kronos-small"})
        forecast = forecast.model_copy(update={"provenance": made})
    stores.forecasts.save(forecast, paths)
    return forecast


def worker_alive(redis: Redis) -> SimpleWorker:
    """A worker's registration in Redis, as a started worker makes it."""
    worker = SimpleWorker([settings().queue.name], connection=redis, serializer=JSONSerializer)
    worker.register_birth()
    return worker


def unheard_of(redis: Redis, worker_name: str, *, seconds: float) -> None:
    """Let the last sign of life of a worker be so long ago: it was killed, or hangs."""
    at = datetime.now(UTC) - timedelta(seconds=seconds)
    redis.hset(SimpleWorker.redis_worker_namespace_prefix + worker_name, "last_heartbeat", utcformat(at))


def ingest_alive(redis: Redis) -> SimpleWorker:
    """An ingest that takes fetches, as its registration in Redis says; it makes none."""
    worker = SimpleWorker([settings().queue.ingest_name], connection=redis, serializer=JSONSerializer)
    worker.register_birth()
    return worker


def job_as_running(redis: Redis, forecast_id: str, done: int, total: int) -> None:
    """A queued job as a worker that has begun it would leave it in Redis."""
    job = Job.fetch(forecast_id, connection=redis, serializer=JSONSerializer)
    job.meta.update(progress={"phase": "sampling", "done": done, "total": total}, tries=1)
    job.save_meta()
    job.set_status("started")
