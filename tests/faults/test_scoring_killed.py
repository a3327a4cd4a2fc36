"""A worker dies while it scores: the next one writes what is missing, and nothing twice."""

from __future__ import annotations

import signal
import time
from dataclasses import replace
from pathlib import Path

from redis import Redis

from shared.forecast_queue import ForecastQueue
from shared.forecast_store import ForecastStore
from shared.forecasts import scheduled_forecast_id
from shared.kline_store import KlineStore
from shared.klines import Interval
from shared.ledger import Ledger
from tests.builders import finished_forecast, forecast_request, kline_window, settings, with_baselines
from tests.faults.recovery import Recovery
from tests.processes import eventually, service
from tests.tiny_models import write_tiny_models

DUE = 150


def store_due_forecasts(redis: Redis) -> list[str]:
    """Forecasts of the schedule whose candles have closed long ago."""
    klines, forecasts = KlineStore(redis, keep=1000), ForecastStore(redis, keep=1000)
    long, ids = kline_window(400 + DUE + 30), []
    for end in range(400, 400 + DUE):
        window = replace(long, open_times_ms=long.open_times_ms[end - 100 : end], values=long.values[end - 100 : end])
        request = forecast_request(klines.save(window), num_samples=30)
        forecast_id = scheduled_forecast_id("BTCUSDT", Interval.H1, window.last_open_time_ms, "live")
        forecast, paths = finished_forecast(forecast_id, window, request, seed=end)
        forecast, draws = with_baselines(forecast, window)
        forecasts.save(forecast, paths, draws)
        ids.append(forecast_id)
    klines.save(long)
    return ids


def test_nothing_is_scored_twice_and_nothing_is_missing_when_a_worker_is_killed(
    redis: Redis, redis_url: str, tmp_path: Path, recovery: Recovery
) -> None:
    environment = {
        "KRONOS_REDIS__URL": redis_url,
        "KRONOS_MODEL__LOCAL_DIR": str(write_tiny_models(tmp_path)),
        "KRONOS_MODEL__ALLOW_HUB": "false",
        "KRONOS_WORKER__THREADS": "1",
    }
    queue, ledger, ids = ForecastQueue(redis, settings().queue), Ledger(redis), store_due_forecasts(redis)
    with service("worker", environment, tmp_path) as first:
        first.wait_for_log("worker_ready")
        queue.enqueue_scoring("BTCUSDT", Interval.H1, 0)
        eventually(lambda: ledger.version("BTCUSDT", Interval.H1, "live")[0] > 5, 60, first.log)
        first.end(signal.SIGKILL)
    recovery.begins()
    written = ledger.entries("BTCUSDT", Interval.H1, "live")
    assert 0 < len(written) < DUE, "it was to die half way"
    with service("worker", environment, tmp_path) as second:
        eventually(lambda: ledger.version("BTCUSDT", Interval.H1, "live")[0] == DUE, 120, second.log)
        recovery.has_ended()
        time.sleep(0.5)
    entries = ledger.entries("BTCUSDT", Interval.H1, "live")
    assert [entry.forecast_id for entry in entries] == ids
    assert entries[: len(written)] == written, "what was written before is as it was"
    assert second.log().count('"forecast_scored"') == DUE - len(written)
