"""What an operator and a program that pages through forecasts ask of the running web service."""

from __future__ import annotations

from datetime import UTC, datetime

import httpx
import pytest
from redis import Redis

from services.web.situation import Stores
from shared.queue_overview import MODEL_FIELD, LoadedModel
from tests.builders import settings
from tests.web_server import forecast_stored, ingest_alive, ingested, job_as_running, unheard_of, worker_alive

FORECASTS = "/api/v1/forecasts"


def all_pages(web: httpx.Client, limit: int) -> list[list[str]]:
    pages, address = [], f"{FORECASTS}?limit={limit}"
    while address:
        answer = web.get(address).json()
        pages.append([one["id"] for one in answer["forecasts"]])
        address = answer["next"]
    return pages


def test_pages_give_every_forecast_once_newest_first(web: httpx.Client, stores: Stores) -> None:
    window = ingested(stores)
    made = [forecast_stored(stores, window).id]
    made += [forecast_stored(stores, window, forecast_id=f"adhoc-{n}").id for n in range(5)]
    newest_first = made[::-1]
    for limit in (1, 2, 4, 6, 50):
        pages = all_pages(web, limit)
        assert [one for page in pages for one in page] == newest_first
        assert all(len(page) <= limit for page in pages)
        assert len(pages) == -(-6 // limit)


def test_what_comes_in_between_two_pages_neither_repeats_nor_hides_anything(web: httpx.Client, stores: Stores) -> None:
    window = ingested(stores)
    for n in range(4):
        forecast_stored(stores, window, forecast_id=f"adhoc-{n}")
    first = web.get(f"{FORECASTS}?limit=2").json()
    forecast_stored(stores, window, forecast_id="adhoc-new")
    second = web.get(first["next"]).json()
    assert [one["id"] for one in first["forecasts"] + second["forecasts"]] == [f"adhoc-{n}" for n in (3, 2, 1, 0)]
    assert second["next"] is None


@pytest.mark.parametrize("cursor", ["x", "e30=", "WyJhIl0=", "bnVsbA==", "-", "W10="])
def test_a_cursor_that_is_none_is_refused(web: httpx.Client, stores: Stores, cursor: str) -> None:
    forecast_stored(stores, ingested(stores))
    refused = web.get(f"{FORECASTS}?cursor={cursor}")
    assert refused.status_code == 422
    assert refused.json()["errors"][0]["field"] == "cursor"


def test_a_cursor_of_another_series_is_refused(web: httpx.Client, stores: Stores) -> None:
    window = ingested(stores)
    for n in range(2):
        forecast_stored(stores, window, forecast_id=f"adhoc-{n}")
    address = web.get(f"{FORECASTS}?limit=1").json()["next"]
    ingested(stores, symbol="ETHUSDT")
    refused = web.get(address.replace("BTCUSDT", "ETHUSDT"))
    assert refused.status_code == 422
    assert "ETHUSDT 1h" in refused.json()["detail"]


def test_the_queue_says_what_waits_and_what_runs(web: httpx.Client, redis: Redis, stores: Stores) -> None:
    empty = web.get("/api/v1/queue").json()
    assert empty == {
        "waiting": 0,
        "fetching": 0,
        "oldest_age_s": None,
        "running": [],
        "most": settings().limits.max_queued,
        "workers": 0,
        "ingests": 0,
    }
    ingested(stores)
    ids = [web.post(FORECASTS, json={"seed": seed}).json()["id"] for seed in range(2)]
    redis.hset(f"rq:job:{ids[0]}", "enqueued_at", "2026-01-01T00:00:00.000000Z")
    queue = web.get("/api/v1/queue").json()
    waited = (datetime.now(UTC) - datetime(2026, 1, 1, tzinfo=UTC)).total_seconds()
    assert queue["waiting"] == 2
    assert queue["oldest_age_s"] == pytest.approx(waited, abs=10)
    worker = worker_alive(redis)
    redis.lrem("rq:queue:forecasts", 1, ids[0])
    redis.zadd("rq:wip:forecasts", {f"{ids[0]}:execution": 9e12})
    redis.hset(f"rq:job:{ids[0]}", "worker_name", worker.name)
    job_as_running(redis, ids[0], 7, 24)
    queue = web.get("/api/v1/queue").json()
    assert (queue["waiting"], queue["workers"]) == (1, 1)
    unheard_of(redis, worker.name, seconds=61)
    assert web.get("/api/v1/queue").json()["workers"] == 0
    [running] = queue["running"]
    assert (running["id"], running["worker"]) == (ids[0], worker.name)
    assert running["progress"] == {"phase": "sampling", "done": 7, "total": 24}


def test_workers_say_what_they_have_loaded_and_when_they_were_last_heard_of(web: httpx.Client, redis: Redis) -> None:
    assert web.get("/api/v1/workers").json() == {"workers": [], "ingests": []}
    worker, ingest = worker_alive(redis), ingest_alive(redis)
    redis.sadd(ingest.executions_key, "fetch-1:execution")
    [fetching] = web.get("/api/v1/workers").json()["ingests"]
    assert (fetching["name"], fetching["jobs"]) == (ingest.name, ["fetch-1"])
    [silent] = web.get("/api/v1/workers").json()["workers"]
    assert (silent["name"], silent["model"], silent["jobs"]) == (worker.name, None, [])
    assert 0 <= silent["heartbeat_age_s"] < 60
    assert silent["host"] == worker.hostname
    loaded = LoadedModel(
        name="Kronos-nano",
        source="bundled",
        stands_in_for="Kronos-small",
        device="cpu",
        dtype="float32",
        kernels="native",
    )
    redis.hset(worker.key, mapping={MODEL_FIELD: loaded.model_dump_json(), "state": "busy"})
    redis.sadd(worker.executions_key, "adhoc-1:execution")
    [busy] = web.get("/api/v1/workers").json()["workers"]
    assert (busy["state"], busy["jobs"], busy["model"]) == ("busy", ["adhoc-1"], loaded.model_dump())
    models = web.get("/api/v1/models").json()
    assert {one["name"]: (one["configured"], one["loaded_by"]) for one in models["models"]} == {
        "Kronos-mini": (False, []),
        "Kronos-small": (True, []),
        "Kronos-base": (False, []),
        "Kronos-nano": (False, [worker.name]),
    }
    assert models["loaded"] == [loaded.model_dump()]
    redis.delete(worker.key)  # as it expires when a worker was killed
    assert web.get("/api/v1/workers").json()["workers"] == []
