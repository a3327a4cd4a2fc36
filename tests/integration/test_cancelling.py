"""Cancelling by the API, with real workers: what waits leaves the queue, what runs stops, and all else goes on."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import httpx
import pytest
from redis import Redis
from rq import Queue

from services.web.situation import Stores
from shared.errors import ForecastCancelledError
from shared.forecast_queue import may_be_stored, report_progress
from shared.forecasts import scheduled_forecast_id
from tests.builders import forecast_request, settings
from tests.integration.test_panels import LONG, draws, ends, enqueue
from tests.integration.test_web_bad_input import ASK, problem
from tests.processes import Service, eventually, service
from tests.tiny_models import write_tiny_models
from tests.web_server import forecast_stored, ingested, web_server

Start = Callable[..., AbstractContextManager[Service]]
VERY_LONG = {"num_samples": 1000, "horizon": 400}


@pytest.fixture
def start(redis_url: str, tmp_path: Path) -> Start:
    environment = {
        "KRONOS_REDIS__URL": redis_url,
        "KRONOS_MODEL__LOCAL_DIR": str(write_tiny_models(tmp_path / "models")),
        "KRONOS_MODEL__ALLOW_HUB": "false",
        "KRONOS_WORKER__THREADS": "1",
    }
    return lambda at_once: service(
        "worker", {**environment, "KRONOS_WORKER__FORECASTS_AT_ONCE": str(at_once)}, tmp_path
    )


def is_let_go(redis: Redis) -> Callable[[], bool]:
    """Asks whether no worker is at any job any more."""
    return lambda: Queue(settings().queue.name, connection=redis).started_job_registry.count == 0


def test_a_waiting_forecast_leaves_the_queue_at_once(web: httpx.Client, redis: Redis, stores: Stores) -> None:
    ingested(stores)
    first, second = (web.post(ASK, json={"seed": seed}).json()["id"] for seed in (1, 2))
    cancelled = web.delete(f"{ASK}/{first}")
    assert cancelled.status_code == 200
    answer = cancelled.json()
    assert (answer["id"], answer["state"], answer["position"]) == (first, "cancelled", None)
    assert "cancelled before it was finished" in answer["error"]
    assert stores.queue.waiting() == 1
    assert web.get(f"{ASK}/{second}").json()["position"] == 0
    assert web.get(f"{ASK}/{first}").json()["state"] == "cancelled"
    assert web.delete(f"{ASK}/{first}").json() == answer  # to cancel twice is to cancel once
    assert 0 < redis.ttl(f"rq:job:{first}") <= settings().queue.failure_ttl


def test_a_running_forecast_stops_and_its_worker_takes_the_next(
    web: httpx.Client, redis: Redis, stores: Stores, start: Start
) -> None:
    enqueue(stores, "long", **VERY_LONG)
    with start(at_once=1) as worker:
        eventually(draws(stores, "long"), 60)
        assert web.delete(f"{ASK}/long").json()["state"] == "cancelled"
        eventually(is_let_go(redis), 10, worker.log)
        assert stores.queue.status("long").tries == 1  # nobody tries again what nobody wants
        assert stores.queue.waiting() == 0
        assert web.get(f"{ASK}/long").json()["state"] == "cancelled"
        assert not stores.forecasts.exists("long")
        assert "forecast_cancelled" in worker.log()
        assert web.get("/api/v1/queue/failed").json() == {"failed": []}  # what was cancelled has not failed
        assert "Traceback" not in worker.log()
        enqueue(stores, "next", horizon=3)
        assert ends(stores, "next") == ["finished"]
        enqueue(stores, "long", horizon=3)  # asked for again, under its own id
        assert ends(stores, "long") == ["finished"]


def test_a_panel_goes_on_for_those_that_are_still_wanted(web: httpx.Client, stores: Stores, start: Start) -> None:
    for one in ("a", "b", "c"):
        enqueue(stores, one, **LONG)
    with start(at_once=3) as worker:
        eventually(draws(stores, "b"), 60)
        assert web.delete(f"{ASK}/b").json()["state"] == "cancelled"
        assert ends(stores, "a", "c") == ["finished"] * 2
        assert [stores.forecasts.load(one).provenance.side_by_side for one in ("a", "c")] == [3, 3]
        eventually(lambda: "forecast_cancelled" in worker.log(), 10, worker.log)
        assert web.get(f"{ASK}/b").json()["state"] == "cancelled"
        assert not stores.forecasts.exists("b")


def test_a_panel_of_which_nothing_is_wanted_any_more_stops(
    web: httpx.Client, redis: Redis, stores: Stores, start: Start
) -> None:
    for one in ("a", "b"):
        enqueue(stores, one, **VERY_LONG)
    with start(at_once=2) as worker:
        eventually(draws(stores, "b"), 60)
        for one in ("a", "b"):
            web.delete(f"{ASK}/{one}")
        eventually(is_let_go(redis), 10, worker.log)
        assert "panel_cancelled" in worker.log()
        assert "Traceback" not in worker.log()


def test_one_that_was_cancelled_on_its_way_to_a_worker_is_not_begun(
    web: httpx.Client, redis: Redis, stores: Stores, start: Start
) -> None:
    enqueue(stores, "taken", **VERY_LONG)
    redis.lrem("rq:queue:forecasts", 1, "taken")  # as a worker takes it, before it says so
    assert web.delete(f"{ASK}/taken").json()["state"] == "cancelled"
    redis.rpush("rq:queue:forecasts", "taken")
    with start(at_once=1) as worker:
        worker.wait_for_log("forecast_cancelled")
    assert not stores.forecasts.exists("taken")


def test_whoever_is_first_decides_whether_a_forecast_is_stored_or_cancelled(
    web: httpx.Client, redis: Redis, stores: Stores
) -> None:
    def is_mine(forecast_id: str) -> bool:
        return forecast_id != "taken-over"

    for one in ("made", "unwanted", "taken-over"):
        enqueue(stores, one)
    assert not may_be_stored(redis, "taken-over", is_mine), "another worker has it now"
    assert may_be_stored(redis, "made", is_mine)
    assert "is finished" in problem(web.delete(f"{ASK}/made"), 409)["detail"]
    assert web.delete(f"{ASK}/unwanted").status_code == 200
    assert not may_be_stored(redis, "unwanted", is_mine)
    assert may_be_stored(redis, "never-queued", is_mine)
    assert not redis.exists("rq:job:never-queued")


def test_progress_goes_on_being_told_until_the_last_one_is_unwanted(redis: Redis, stores: Stores) -> None:
    queue = Queue(settings().queue.name, connection=redis)
    for one in ("a", "b"):
        enqueue(stores, one)
    jobs = [queue.fetch_job(one) for one in ("a", "b")]
    stores.queue.cancel("a")
    report_progress(jobs, "drawing paths", 1, 2)
    stores.queue.cancel("b")
    with pytest.raises(ForecastCancelledError, match="a, b"):
        report_progress(jobs, "drawing paths", 2, 2)


def test_what_has_ended_or_never_was_cannot_be_cancelled(web: httpx.Client, redis: Redis, stores: Stores) -> None:
    finished = forecast_stored(stores, ingested(stores))
    assert f"Forecast {finished.id} is finished" in problem(web.delete(f"{ASK}/{finished.id}"), 409)["detail"]
    enqueue(stores, "failed")
    Queue(settings().queue.name, connection=redis).fetch_job("failed").set_status("failed")
    assert "has failed" in problem(web.delete(f"{ASK}/failed"), 409)["detail"]
    problem(web.delete(f"{ASK}/unknown"), 404)


def test_a_cancelled_forecast_of_the_schedule_is_shown_as_such_and_may_be_asked_for_again(
    web: httpx.Client, stores: Stores
) -> None:
    window = ingested(stores)
    snapshot_id = window.content_hash()[:16]
    scheduled = scheduled_forecast_id(window.symbol, window.interval, window.last_open_time_ms, window.origin)
    stores.queue.enqueue(scheduled, forecast_request(snapshot_id))
    assert stores.queue.cancel(scheduled).state == "cancelled"
    assert "FORECAST CANCELLED" in web.get("/").text
    assert "Its forecast was cancelled." in web.get("/api/v1/forecasts/latest").json()["detail"]
    assert stores.queue.enqueue(scheduled, forecast_request(snapshot_id))  # the schedule may ask for it again
    assert stores.queue.status(scheduled).state == "queued"


def test_cancelling_needs_the_same_access_as_asking(redis_url: str, tmp_path: Path, stores: Stores) -> None:
    enqueue(stores, "mine")
    token = "only-mine"  # noqa: S105 - of a server that lives as long as this test
    with (
        web_server(redis_url, tmp_path, KRONOS_WEB__WRITE_TOKEN=token) as (address, _),
        httpx.Client(base_url=address, timeout=30, trust_env=False) as client,
    ):
        problem(client.delete(f"{ASK}/mine"), 401)
        problem(client.delete(f"{ASK}/mine", headers={"Origin": "https://evil.example"}), 403)
        assert stores.queue.waiting() == 1
        allowed = client.delete(f"{ASK}/mine", headers={"Authorization": f"Bearer {token}"})
        assert allowed.json()["state"] == "cancelled"
