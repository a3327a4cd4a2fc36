"""Two kinds of workers on one Redis, each with a queue and a model of its own, as docs/scaling.md has it for large models."""

from __future__ import annotations

import json
from contextlib import ExitStack
from pathlib import Path

import httpx
from redis import Redis

from shared.forecast_queue import ForecastQueue
from shared.forecast_store import ForecastStore
from shared.kline_store import KlineStore
from tests.builders import forecast_request, kline_window, settings
from tests.processes import eventually, service
from tests.tiny_models import write_tiny_models
from tests.web_server import listening_address

MODELS = {"forecasts": "Kronos-small", "large": "Kronos-mini"}


def test_each_kind_of_worker_takes_from_its_own_queue_and_one_page_shows_what_all_have_made(
    redis: Redis, redis_url: str, tmp_path: Path
) -> None:
    common = {
        "KRONOS_REDIS__URL": redis_url,
        "KRONOS_MODEL__LOCAL_DIR": str(write_tiny_models(tmp_path / "models")),
        "KRONOS_MODEL__ALLOW_HUB": "false",
        "KRONOS_WORKER__THREADS": "1",
        "KRONOS_WEB__PORT": "0",
    }
    snapshot_id = KlineStore(redis, keep=10).save(kline_window(400))
    forecasts = ForecastStore(redis, keep=100)
    with ExitStack() as running:
        workers = {
            name: running.enter_context(
                service("worker", {**common, "KRONOS_QUEUE__NAME": name, "KRONOS_MODEL__MODEL_NAME": model}, tmp_path)
            )
            for name, model in MODELS.items()
        }
        web = running.enter_context(service("web", common, tmp_path))
        for name, worker in workers.items():
            worker.wait_for_log("worker_ready", 120)
            queue = ForecastQueue(redis, settings().queue.model_copy(update={"name": name}))
            for number in range(3):
                request = forecast_request(snapshot_id, scheduled=False, seed=number, num_samples=4, model=MODELS[name])
                queue.enqueue(f"{name}-{number}", request)
        ids = [f"{name}-{number}" for name in MODELS for number in range(3)]
        eventually(lambda: all(forecasts.exists(one) for one in ids), 120)
        for name, worker in workers.items():
            eventually(lambda log=worker.log: log().count('"forecast_stored"') == 3, 30, worker.log)
            stored = [json.loads(line) for line in worker.log().splitlines() if '"forecast_stored"' in line]
            assert sorted(line["forecast"] for line in stored) == [f"{name}-{number}" for number in range(3)]
            assert {line["model"] for line in stored} == {MODELS[name]}
        web.wait_for_log("listening")
        with httpx.Client(base_url=listening_address(web), timeout=30, trust_env=False) as client:
            assert {client.get(f"/api/v1/forecasts/{one}").status_code for one in ids} == {200}
