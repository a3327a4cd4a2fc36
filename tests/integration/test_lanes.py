"""Large models in a lane of their own: what is led there waits for workers that serve it, and is counted, shown and cancelled
like all else.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest
from redis import Redis
from rq import SimpleWorker
from rq.serializers import JSONSerializer

from shared.backtest_queue import BacktestQueue, Moment
from shared.fetches import Fetch
from shared.forecast_queue import ForecastQueue, Wanted
from shared.forecasts import ForecastRequest
from shared.klines import Interval
from shared.settings import QueueSettings
from tests.builders import START_MS, forecast_request, kline_window, settings
from tests.integration.conftest import Run
from tests.processes import eventually, service
from tests.tiny_models import write_tiny_models
from tests.web_server import listening_address, stores_on

LIGHT, HEAVY = "Kronos-small", "Kronos-mini"
HEAVY_QUEUE = "rq:queue:forecasts-heavy"


@pytest.fixture
def routed() -> QueueSettings:
    return settings().queue.model_copy(update={"heavy_models": (HEAVY,)})


@pytest.fixture
def queue(redis: Redis, routed: QueueSettings) -> ForecastQueue:
    return ForecastQueue(redis, routed)


@pytest.fixture
def house(redis_url: str, tmp_path: Path) -> dict[str, str]:
    return {
        "KRONOS_REDIS__URL": redis_url,
        "KRONOS_MODEL__LOCAL_DIR": str(write_tiny_models(tmp_path / "models")),
        "KRONOS_MODEL__ALLOW_HUB": "false",
        "KRONOS_QUEUE__HEAVY_MODELS": HEAVY,
        "KRONOS_WORKER__THREADS": "1",
        "KRONOS_WEB__PORT": "0",
    }


@pytest.fixture
def routing_web(house: dict[str, str], tmp_path: Path) -> Iterator[httpx.Client]:
    with service("web", house, tmp_path) as running:
        running.wait_for_log("listening")
        with httpx.Client(base_url=listening_address(running), timeout=30, trust_env=False) as client:
            yield client


def of(lane_model: str, seed: int = 1, **wishes: object) -> ForecastRequest:
    return forecast_request(scheduled=False, seed=seed, model=lane_model, **wishes)


def registered(redis: Redis, *queues: str) -> SimpleWorker:
    worker = SimpleWorker(list(queues), connection=redis, serializer=JSONSerializer)
    worker.register_birth()
    return worker


def test_each_worker_takes_what_it_serves_and_one_page_shows_what_all_have_made(
    redis: Redis, house: dict[str, str], queue: ForecastQueue, routing_web: httpx.Client, tmp_path: Path
) -> None:
    stores = stores_on(redis)
    snapshot_id = stores.klines.save(kline_window(400))
    served = {"light": LIGHT, "heavy": HEAVY}
    with ExitStack() as running:
        workers = {
            lane: running.enter_context(
                service("worker", {**house, "KRONOS_WORKER__SERVES": lane, "KRONOS_MODEL__MODEL_NAME": model}, tmp_path)
            )
            for lane, model in served.items()
        }
        for lane, worker in workers.items():
            worker.wait_for_log("worker_ready", 120)
            for number in range(3):
                request = forecast_request(snapshot_id, scheduled=False, seed=number, num_samples=4, model=served[lane])
                queue.enqueue(f"{lane}-{number}", request)
        ids = [f"{lane}-{number}" for lane in served for number in range(3)]
        eventually(lambda: all(stores.forecasts.exists(one) for one in ids), 120)
        for lane, worker in workers.items():
            eventually(lambda log=worker.log: log().count('"forecast_stored"') == 3, 30, worker.log)
            stored = [json.loads(line) for line in worker.log().splitlines() if '"forecast_stored"' in line]
            assert sorted(line["forecast"] for line in stored) == [f"{lane}-{number}" for number in range(3)]
            assert {line["model"] for line in stored} == {served[lane]}
        assert {routing_web.get(f"/api/v1/forecasts/{one}").status_code for one in ids} == {200}
        told = routing_web.get("/api/v1/workers").json()["workers"]
        assert sorted(one["queues"][0] for one in told) == ["forecasts", "forecasts-heavy"]


def test_a_worker_as_delivered_serves_both_lanes(
    redis: Redis, house: dict[str, str], queue: ForecastQueue, tmp_path: Path
) -> None:
    stores = stores_on(redis)
    snapshot_id = stores.klines.save(kline_window(400))
    for one, model in {"a": HEAVY, "b": LIGHT}.items():
        queue.enqueue(one, forecast_request(snapshot_id, scheduled=False, num_samples=4, model=model))
    with service("worker", house, tmp_path) as worker:
        eventually(lambda: all(stores.forecasts.exists(one) for one in ("a", "b")), 120, worker.log)


@pytest.mark.parametrize(("serves", "model"), [("light", HEAVY), ("heavy", LIGHT)])
def test_a_worker_that_would_load_a_model_for_nothing_does_not_start(
    house: dict[str, str], tmp_path: Path, serves: str, model: str
) -> None:
    knobs = {"KRONOS_WORKER__SERVES": serves, "KRONOS_MODEL__MODEL_NAME": model}
    with service("worker", {**house, **knobs}, tmp_path) as worker:
        assert worker.process.wait(timeout=60) == 2
        assert f"worker.serves is {serves}, but model.model_name, {model}," in worker.log()
        assert "Traceback" not in worker.log()


def test_what_waits_in_either_lane_is_counted_placed_and_cancelled(redis: Redis, queue: ForecastQueue) -> None:
    for number in range(2):
        assert queue.enqueue(f"light-{number}", of(LIGHT, number))
        assert queue.enqueue(f"heavy-{number}", of(HEAVY, number))
    assert redis.lrange(HEAVY_QUEUE, 0, -1) == [b"heavy-0", b"heavy-1"]
    assert not queue.enqueue("heavy-0", of(HEAVY))
    assert queue.waiting() == queue.overview(START_MS).waiting == 4
    status = queue.status("heavy-1")
    assert (status.lane, status.position, status.state) == ("heavy", 1, "queued")
    assert queue.status("light-1").lane == "light"
    assert queue.cancel("heavy-0").state == "cancelled"
    assert redis.lrange(HEAVY_QUEUE, 0, -1) == [b"heavy-1"]
    assert queue.waiting() == 3


def test_what_waits_in_a_lane_that_nothing_is_led_to_any_more_is_seen_and_made(
    redis: Redis, house: dict[str, str], queue: ForecastQueue, environment: dict[str, str], run: Run, tmp_path: Path
) -> None:
    stores = stores_on(redis)
    snapshot_id = stores.klines.save(kline_window(400))
    queue.enqueue("left", forecast_request(snapshot_id, scheduled=False, num_samples=4, model=HEAVY))
    unrouted = ForecastQueue(redis, settings().queue)
    assert (unrouted.waiting(), unrouted.overview(START_MS).waiting, unrouted.status("left").position) == (1, 1, 0)
    by_check = {one["check"]: one for one in json.loads(run("doctor", "--json").stdout)}
    assert by_check["heavy lane"]["what"].startswith("1 jobs wait")
    with service("worker", {**house, "KRONOS_QUEUE__HEAVY_MODELS": ""}, tmp_path) as worker:
        eventually(lambda: stores.forecasts.exists("left"), 120, worker.log)


def test_a_forecast_whose_klines_are_fetched_first_joins_its_lane_then(redis: Redis, queue: ForecastQueue) -> None:
    fetch = Fetch("ETHUSDT", Interval.H1, START_MS)
    queue.enqueue_many(
        [Wanted("one", of(HEAVY, symbol="ETHUSDT"), names_seed=True, fetch=fetch)], lambda _: False, lambda *_: None
    )
    assert (queue.waiting(), queue.status("one").lane, redis.llen(HEAVY_QUEUE)) == (1, "heavy", 0)
    other = SimpleWorker([settings().queue.ingest_name], connection=redis, serializer=JSONSerializer)
    other.work(
        burst=True, logging_level="CRITICAL"
    )  # with no venue at hand, so that the fetch fails: its forecast says why
    assert redis.lrange(HEAVY_QUEUE, 0, -1) == [b"one"]


def test_a_lane_that_nobody_serves_is_told_to_whoever_waits(
    redis: Redis, queue: ForecastQueue, routing_web: httpx.Client
) -> None:
    registered(redis, "forecasts", "forecasts-backtests")
    queue.enqueue("light", of(LIGHT))
    queue.enqueue("heavy", of(HEAVY))
    light, heavy = (routing_web.get(f"/forecasts/{one}").text for one in ("light", "heavy"))
    assert ("NO WORKER" in light, "NO WORKER" in heavy) == (False, True)
    assert f"KRONOS_WORKER__SERVES=heavy KRONOS_MODEL__MODEL_NAME={HEAVY} kronos-live worker" in heavy
    metrics = routing_web.get("/metrics").text
    assert 'kronos_workers{queue="forecasts",state="alive"} 1.0' in metrics
    assert 'kronos_workers{queue="forecasts-heavy",state="alive"} 0.0' in metrics
    assert 'kronos_queue_jobs{queue="forecasts-heavy",state="queued"} 1.0' in metrics
    registered(redis, "forecasts-heavy", "forecasts")
    assert "NO WORKER" not in routing_web.get("/forecasts/heavy").text
    assert routing_web.get("/api/v1/queue").json()["workers"] == 2  # each once, whatever it serves
    assert queue.workers() == 2


def test_the_doctor_looks_at_each_lane(redis: Redis, environment: dict[str, str], run: Run) -> None:
    registered(redis, "forecasts")
    found = run("doctor", "--json", KRONOS_QUEUE__HEAVY_MODELS=HEAVY)
    by_check = {one["check"]: one for one in json.loads(found.stdout)}
    assert by_check["workers of the light lane"]["state"] == "ok"
    assert by_check["workers of the heavy lane"]["state"] == "wrong"
    assert f"SERVES=heavy KRONOS_MODEL__MODEL_NAME={HEAVY}" in by_check["workers of the heavy lane"]["todo"]
    assert {"light lane", "heavy lane"} <= set(by_check)


def test_moments_of_a_backtest_wait_in_the_lane_of_its_model(redis: Redis, routed: QueueSettings) -> None:
    backtests = BacktestQueue(redis, routed)
    moment = Moment("past", of(HEAVY), kline_window(400), [1.0] * 24)
    backtests.hand_out(moment)
    assert redis.lrange("rq:queue:forecasts-heavy-backtests", 0, -1) == [moment.job_id.encode()]
    registered(redis, "forecasts", "forecasts-backtests")
    assert backtests.workforce(HEAVY, START_MS).at_hand == 0
    registered(redis, "forecasts-heavy", "forecasts-heavy-backtests")
    assert backtests.workforce(HEAVY, START_MS).at_hand == 1
    assert backtests.call_off([moment.job_id]) == 1
