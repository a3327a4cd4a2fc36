"""Redis goes away while a worker waits for work, and comes back: the worker goes on."""

from __future__ import annotations

import subprocess
from pathlib import Path

from redis import Redis
from redis.exceptions import RedisError

from services.local_redis import redis_server_binary
from shared.forecast_queue import ForecastQueue
from shared.forecast_store import ForecastStore
from shared.kline_store import KlineStore
from tests.builders import forecast_request, kline_window, settings
from tests.conftest import free_port
from tests.processes import eventually, service
from tests.tiny_models import write_tiny_models


def start_redis(port: int, folder: Path) -> subprocess.Popen[bytes]:
    command = [str(redis_server_binary()), "--port", str(port), "--bind", "127.0.0.1", "--appendonly", "yes"]
    server = subprocess.Popen([*command, "--dir", str(folder)], stdout=subprocess.DEVNULL)
    client = Redis(port=port)

    def answers() -> bool:
        try:
            return bool(client.ping())
        except RedisError:
            return False

    eventually(answers, 20)
    return server


def test_a_worker_outlives_a_restart_of_redis_and_what_was_stored_is_still_there(tmp_path: Path) -> None:
    port = free_port()
    server = start_redis(port, tmp_path)
    environment = {
        "KRONOS_REDIS__URL": f"redis://127.0.0.1:{port}/0",
        "KRONOS_MODEL__LOCAL_DIR": str(write_tiny_models(tmp_path / "models")),
        "KRONOS_MODEL__ALLOW_HUB": "false",
        "KRONOS_WORKER__THREADS": "1",
    }
    try:
        with service("worker", environment, tmp_path) as worker:
            worker.wait_for_log("worker_ready")
            client = Redis(port=port)
            queue, forecasts = ForecastQueue(client, settings().queue), ForecastStore(client, keep=10)
            snapshot_id = KlineStore(client, keep=10).save(kline_window())
            queue.enqueue("before", forecast_request(snapshot_id, num_samples=2))
            eventually(lambda: forecasts.exists("before"), 60, worker.log)

            server.kill()
            server.wait(timeout=10)
            server = start_redis(port, tmp_path)
            assert forecasts.exists("before")
            queue.enqueue("after", forecast_request(snapshot_id, num_samples=2))
            eventually(lambda: forecasts.exists("after"), 90, worker.log)
            assert worker.process.poll() is None
    finally:
        server.terminate()
        server.wait(timeout=10)


def test_a_forecast_outlives_a_redis_that_goes_away_while_it_is_made(tmp_path: Path) -> None:
    port = free_port()
    server = start_redis(port, tmp_path)
    environment = {
        "KRONOS_REDIS__URL": f"redis://127.0.0.1:{port}/0",
        "KRONOS_MODEL__LOCAL_DIR": str(write_tiny_models(tmp_path / "models")),
        "KRONOS_MODEL__ALLOW_HUB": "false",
        "KRONOS_WORKER__THREADS": "1",
    }
    try:
        with service("worker", environment, tmp_path) as worker:
            worker.wait_for_log("worker_ready")
            client = Redis(port=port)
            queue, forecasts = ForecastQueue(client, settings().queue), ForecastStore(client, keep=10)
            snapshot_id = KlineStore(client, keep=10).save(kline_window())
            queue.enqueue("during", forecast_request(snapshot_id, num_samples=300, horizon=400))
            eventually(lambda: queue.status("during").progress, 30, worker.log)
            server.kill()
            server.wait(timeout=10)
            worker.wait_for_log("waiting_for_redis", 90)
            server = start_redis(port, tmp_path)
            eventually(lambda: forecasts.exists("during"), 60, worker.log)
            queue.enqueue("after", forecast_request(snapshot_id, num_samples=2))
            eventually(lambda: forecasts.exists("after"), 60, worker.log)
            assert queue.status("during").state == "finished"
            assert worker.process.poll() is None
            assert "Traceback" not in worker.log()
    finally:
        server.terminate()
        server.wait(timeout=10)
