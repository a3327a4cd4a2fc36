"""The stores and the queue against a real Redis."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any, get_args

import numpy as np
import pytest
from redis import Redis
from redis.client import Pipeline
from rq.executions import Execution
from rq.job import Job

from shared.errors import KlineError, NotFoundError, SettingsError, StoreUnavailableError
from shared.forecast_queue import ForecastQueue
from shared.forecast_store import ForecastStore, Neighbours
from shared.kline_store import KlineStore
from shared.klines import IngestedOrigin, Interval, KlineWindow
from shared.redis_connection import connect
from shared.redis_questions import ask_together
from tests.builders import START_MS, finished_forecast, forecast_request, kline_window, redis_settings, settings
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

        return [one.job_id for one in queue.take_along("light", lambda request: request.horizon == 3, 7, begin)]

    with ThreadPoolExecutor(8) as pool:
        taken = [one for along in pool.map(take, range(8)) for one in along]
    assert sorted(taken) == sorted(waiting[::2])
    assert [queue.status(one).position for one in waiting[1::2]] == list(range(30))


def test_an_unknown_job_is_not_found_by_name(redis: Redis) -> None:
    with pytest.raises(NotFoundError, match="nobody"):
        ForecastQueue(redis, settings().queue).status("nobody")


def test_a_redis_that_is_away_is_named_with_its_knob_and_without_its_password() -> None:
    client = connect(redis_settings(f"redis://:hidden@127.0.0.1:{free_port()}/0"))
    with pytest.raises(StoreUnavailableError, match="KRONOS_REDIS__URL") as caught:
        KlineStore(client, keep=1).all_statuses()
    assert "hidden" not in str(caught.value)


@pytest.mark.parametrize("url", ["redis://:hidden@host:abc/0", "redis://[::1/0", "http://u:hidden@host/0"])
def test_a_redis_address_that_is_none_is_told_without_its_password(url: str) -> None:
    with pytest.raises(SettingsError, match="KRONOS_REDIS__URL") as caught:
        connect(redis_settings(url))
    assert "hidden" not in str(caught.value)


def windows_of(window: KlineWindow, *spans: tuple[int, int]) -> list[KlineWindow]:
    """Parts of a window, from one row to before another."""
    return [
        KlineWindow(
            window.symbol, window.interval, window.venue, window.origin, window.open_times_ms[a:b], window.values[a:b]
        )
        for a, b in spans
    ]


def followed_steps(store: KlineStore, window: KlineWindow, row: int, count: int, **other: Any) -> list[int]:
    """Which of the `count` candles after a row are kept, from 1; those found must be the window's."""
    after = int(window.open_times_ms[row])
    named = {"venue": window.venue, "origin": window.origin, **other}
    found = store.followed(window.symbol, window.interval, after_ms=after, count=count, **named)
    rows = (found.open_times_ms - window.open_times_ms[0]) // window.interval.ms
    assert np.array_equal(found.values, window.values[rows])
    return list((rows - row).tolist())


@pytest.mark.parametrize(
    ("spans", "steps"),
    [
        ([(0, 101)], []),  # nothing has closed since
        ([(0, 101), (0, 108)], [1, 2, 3, 4, 5, 6, 7]),
        ([(0, 101), (20, 140)], list(range(1, 25))),
        ([(0, 101), (20, 140), (120, 400)], list(range(1, 25))),
        ([(118, 400)], list(range(18, 25))),  # retention has dropped the rest
        (
            [(0, 110), (118, 400)],
            [*range(1, 10), *range(18, 25)],
        ),  # a gap at the venue, of which all later ones begin behind
        ([(90, 105), (104, 116), (115, 130)], list(range(1, 25))),  # short ones, one behind the other
        ([(0, 50), (200, 400)], []),
    ],
)
def test_the_candles_that_followed_are_put_together_from_what_is_kept(
    redis: Redis, spans: list[tuple[int, int]], steps: list[int]
) -> None:
    store, window = KlineStore(redis, keep=20), kline_window(400)
    for one in windows_of(window, *spans):
        store.save(one)
    assert followed_steps(store, window, 100, 24) == steps


def test_short_snapshots_of_later_do_not_hide_a_long_one_that_reaches_back(redis: Redis) -> None:
    store, window = KlineStore(redis, keep=20), kline_window(400)
    for one in windows_of(window, (250, 301), (251, 302), (0, 330)):
        store.save(one)
    assert followed_steps(store, window, 100, 24) == list(range(1, 25))


def test_candles_of_another_venue_or_origin_never_follow(redis: Redis) -> None:
    store = KlineStore(redis, keep=20)
    window = kline_window(400)
    for venue, origin in (("okx", "live"), ("simulated", "simulated"), ("recorded", "recorded")):
        store.save(kline_window(400, venue=venue, origin=origin))  # type: ignore[arg-type]
    store.save(kline_window(400, symbol="ETHUSDT"))
    assert followed_steps(store, window, 100, 24) == []
    assert followed_steps(store, window, 100, 3, venue="okx") == [1, 2, 3]


def test_what_retention_drops_is_looked_for_no_more(redis: Redis) -> None:
    store, window = KlineStore(redis, keep=2), kline_window(400)
    for one in windows_of(window, (0, 130), (125, 300), (126, 301)):
        store.save(one)
    assert redis.zcard("kronos:closed:BTCUSDT:1h:binance:live") == 2
    assert followed_steps(store, window, 100, 26) == [25, 26]


def test_a_forecast_knows_those_before_and_after_it_in_its_own_index(redis: Redis) -> None:
    store = ForecastStore(redis, keep=10)
    made = {}
    for name, hour, origin, scheduled in (
        ("third", 3, "live", True),
        ("first", 1, "live", True),
        ("simulated", 2, "simulated", True),
        ("asked", 2, "live", False),
        ("second", 2, "live", True),
        ("asked later", 1, "live", False),
    ):
        window = kline_window(100, origin=origin, start_ms=START_MS + hour * Interval.H1.ms)  # type: ignore[arg-type]
        made[name], paths = finished_forecast(name, window, forecast_request(scheduled=scheduled))
        store.save(made[name], paths)
    found = {}
    for name, forecast in made.items():
        question = store.neighbours_question(forecast)
        beside = ask_together(redis, question)[question]
        found[name] = (beside.previous, beside.next)
    assert found == {
        "first": (None, "second"),
        "second": ("first", "third"),
        "third": ("second", None),
        "simulated": (None, None),
        "asked": (None, "asked later"),
        "asked later": ("asked", None),
    }
    gone, _ = finished_forecast("gone", kline_window(), forecast_request())
    question = store.neighbours_question(gone)
    assert ask_together(redis, question)[question] == Neighbours(None, None)
