"""The stores and the queue against a real Redis."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import get_args

import numpy as np
import pytest
from redis import Redis
from redis.client import Pipeline
from rq.executions import Execution
from rq.job import Job

from shared.errors import KlineError, NotFoundError, SettingsError, StoreUnavailableError
from shared.forecast_queue import ForecastQueue
from shared.forecast_store import ForecastStore
from shared.kline_store import KlineStore
from shared.klines import IngestedOrigin, Interval
from shared.redis_connection import connect
from shared.settings import RedisSettings
from tests.builders import START_MS, finished_forecast, forecast_request, kline_window, settings
from tests.conftest import free_port


def test_a_snapshot_comes_back_as_it_was_and_is_stored_once(redis: Redis) -> None:
    store = KlineStore(redis, keep=5)
    window = kline_window(200)
    snapshot_id = store.save(window)
    assert store.save(window) == snapshot_id
    loaded = store.load(snapshot_id)
    assert loaded.content_hash() == window.content_hash()
    assert np.array_equal(loaded.values, window.values)
    assert (loaded.symbol, loaded.interval, loaded.venue, loaded.origin) == ("BTCUSDT", Interval.H1, "binance", "live")


def test_a_snapshot_that_was_tampered_with_is_refused(redis: Redis) -> None:
    store = KlineStore(redis, keep=5)
    one, other = store.save(kline_window(100, seed=1)), store.save(kline_window(100, seed=2))
    redis.hset(f"kronos:snapshot:{one}", "values", redis.hget(f"kronos:snapshot:{other}", "values"))
    with pytest.raises(KlineError, match="does not have the content"):
        store.load(one)


def test_only_the_newest_snapshots_are_kept(redis: Redis) -> None:
    store = KlineStore(redis, keep=2)
    ids = [store.save(kline_window(100 + i)) for i in range(4)]
    for dropped in ids[:2]:
        with pytest.raises(NotFoundError, match=dropped):
            store.load(dropped)
    assert [len(store.load(kept)) for kept in ids[2:]] == [102, 103]


def test_a_forecast_comes_back_with_every_path(redis: Redis) -> None:
    store = ForecastStore(redis, keep=5)
    forecast, paths = finished_forecast("f1", kline_window(), forecast_request())
    store.save(forecast, paths)
    assert store.load("f1") == forecast
    assert np.array_equal(store.load_paths("f1"), paths)


def test_the_latest_forecast_is_the_schedules_not_a_persons(redis: Redis) -> None:
    store = ForecastStore(redis, keep=5)
    store.save(*finished_forecast("scheduled", kline_window(), forecast_request()))
    store.save(*finished_forecast("asked", kline_window(), forecast_request(scheduled=False)))
    latest = store.latest_scheduled("BTCUSDT", Interval.H1, "live")
    assert latest is not None
    assert latest.id == "scheduled"
    assert [forecast.id for forecast in store.newest("BTCUSDT", Interval.H1, 10)] == ["asked", "scheduled"]


def test_simulated_and_recorded_forecasts_never_hide_live_ones(redis: Redis) -> None:
    store = ForecastStore(redis, keep=5)
    later = kline_window(500, origin="simulated")
    for name, window in (
        ("live", kline_window()),
        ("simulated", later),
        ("recorded", kline_window(100, origin="recorded")),
    ):
        store.save(*finished_forecast(name, window, forecast_request()))
    for origin in get_args(IngestedOrigin):
        latest = store.latest_scheduled("BTCUSDT", Interval.H1, origin)
        assert latest is not None
        assert latest.id == origin


def test_only_the_newest_forecasts_are_kept(redis: Redis) -> None:
    store = ForecastStore(redis, keep=2)
    for hour in range(4):
        window = kline_window(start_ms=START_MS + hour * Interval.H1.ms)
        store.save(*finished_forecast(f"f{hour}", window, forecast_request()))
    assert [forecast.id for forecast in store.newest("BTCUSDT", Interval.H1, 10)] == ["f3", "f2"]
    assert not store.exists("f0")


def test_what_people_ask_for_never_displaces_the_schedules_forecasts(redis: Redis) -> None:
    store = ForecastStore(redis, keep=2)
    store.save(*finished_forecast("scheduled", kline_window(), forecast_request()))
    for number in range(5):
        store.save(*finished_forecast(f"asked{number}", kline_window(), forecast_request(scheduled=False)))
    assert store.exists("scheduled")
    assert not store.exists("asked0")


def test_what_another_version_wrote_is_left_alone(redis: Redis) -> None:
    store = ForecastStore(redis, keep=5)
    store.save(*finished_forecast("old", kline_window(), forecast_request()))
    redis.hset("kronos:forecast:old", "record", b'{"id": "old", "colour": "red"}')
    redis.hset("kronos:series", "BTCUSDT:1h", b'{"symbol": "BTCUSDT"}')
    assert store.latest_scheduled("BTCUSDT", Interval.H1, "live") is None
    assert store.newest("BTCUSDT", Interval.H1, 10) == []
    assert KlineStore(redis, keep=5).all_statuses() == []
    with pytest.raises(NotFoundError):
        store.load("old")


def test_an_older_recording_is_kept_like_any_other_snapshot(redis: Redis) -> None:
    store = KlineStore(redis, keep=2)
    for count in (300, 301):
        store.save(kline_window(count))
    recorded = store.save(kline_window(100, origin="recorded"))
    assert len(store.load(recorded)) == 100


def test_one_forecast_id_enters_the_queue_once(redis: Redis) -> None:
    queue = ForecastQueue(redis, settings().queue)
    assert queue.enqueue("BTCUSDT-1h-20250101T000000Z", forecast_request())
    assert not queue.enqueue("BTCUSDT-1h-20250101T000000Z", forecast_request())
    assert queue.waiting() == 1
    status = queue.status("BTCUSDT-1h-20250101T000000Z")
    assert (status.state, status.position, status.error) == ("queued", 0, None)


def test_workers_that_take_jobs_along_at_the_same_time_never_take_the_same(redis: Redis) -> None:
    queue = ForecastQueue(redis, settings().queue)
    waiting = [f"waiting-{number}" for number in range(60)]
    for number, one in enumerate(waiting):
        assert queue.enqueue(one, forecast_request(horizon=3 + number % 2))

    def take(worker: int) -> list[str]:
        def begin(job: Job, pipe: Pipeline) -> Execution:
            return Execution.create(job, ttl=60, pipeline=pipe, worker_name=f"worker-{worker}")

        return [one.job_id for one in queue.take_along(lambda request: request.horizon == 3, 7, begin)]

    with ThreadPoolExecutor(8) as pool:
        taken = [one for along in pool.map(take, range(8)) for one in along]
    assert sorted(taken) == sorted(waiting[::2])
    assert [queue.status(one).position for one in waiting[1::2]] == list(range(30))


def test_an_unknown_job_is_not_found_by_name(redis: Redis) -> None:
    with pytest.raises(NotFoundError, match="nobody"):
        ForecastQueue(redis, settings().queue).status("nobody")


def test_a_redis_that_is_away_is_named_with_its_knob_and_without_its_password() -> None:
    client = connect(RedisSettings.model_validate({"url": f"redis://:hidden@127.0.0.1:{free_port()}/0"}))
    with pytest.raises(StoreUnavailableError, match="KRONOS_REDIS__URL") as caught:
        KlineStore(client, keep=1).all_statuses()
    assert "hidden" not in str(caught.value)


@pytest.mark.parametrize("url", ["redis://:hidden@host:abc/0", "redis://[::1/0", "http://u:hidden@host/0"])
def test_a_redis_address_that_is_none_is_told_without_its_password(url: str) -> None:
    with pytest.raises(SettingsError, match="KRONOS_REDIS__URL") as caught:
        connect(RedisSettings.model_validate({"url": url}))
    assert "hidden" not in str(caught.value)
