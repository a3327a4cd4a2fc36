"""Redis goes away while a worker waits or works, and comes back: the worker goes on, and no forecast is lost."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from redis import Redis

from shared.forecast_queue import ForecastQueue
from shared.forecast_store import ForecastStore
from shared.kline_store import KlineStore
from tests.builders import enqueue_together, forecast_request, kline_window, settings
from tests.conftest import free_port
from tests.faults.recovery import Recovery
from tests.faults.redis_faults import start_redis
from tests.integration.test_backtest_workers import backtest, ended, lines_of
from tests.processes import Service, eventually, service
from tests.tiny_models import write_tiny_models
from tests.unit.inference.test_backtest import write_klines

pytestmark = pytest.mark.slow


@contextmanager
def worker_on(port: int, folder: Path) -> Iterator[Service]:
    """A worker with a tiny model, ready, on the Redis at a port."""
    environment = {
        "KRONOS_REDIS__URL": f"redis://127.0.0.1:{port}/0",
        "KRONOS_MODEL__LOCAL_DIR": str(write_tiny_models(folder / "models")),
        "KRONOS_MODEL__ALLOW_HUB": "false",
        "KRONOS_WORKER__THREADS": "1",
        "KRONOS_WORKER__FORECASTS_AT_ONCE": "2",
    }
    with service("worker", environment, folder) as worker:
        worker.wait_for_log("worker_ready")
        yield worker


@dataclass
class House:
    """A Redis that can be killed and started again on its port and its files, and what is stored in it."""

    port: int
    folder: Path
    server: subprocess.Popen[bytes]

    def __post_init__(self) -> None:
        client = Redis(port=self.port)
        self.queue, self.forecasts = ForecastQueue(client, settings().queue), ForecastStore(client, keep=10)
        self.snapshot_id = KlineStore(client, keep=10).save(kline_window())

    def enqueue(self, forecast_id: str, **wishes: object) -> None:
        assert self.queue.enqueue(forecast_id, forecast_request(self.snapshot_id, **wishes))

    def kill_redis(self) -> None:
        self.server.kill()
        self.server.wait(timeout=60)

    def start_redis(self) -> None:
        self.server = start_redis(self.port, self.folder)


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    port = free_port()
    running = House(port, tmp_path, start_redis(port, tmp_path))
    yield running
    running.server.terminate()
    running.server.wait(timeout=60)


def test_a_worker_outlives_a_restart_of_redis_and_what_was_stored_is_still_there(
    house: House, recovery: Recovery
) -> None:
    with worker_on(house.port, house.folder) as worker:
        house.enqueue("before", num_samples=2)
        eventually(lambda: house.forecasts.exists("before"), 60, worker.log)
        house.kill_redis()
        house.start_redis()
        recovery.begins()
        assert house.forecasts.exists("before")
        house.enqueue("after", num_samples=2)
        eventually(lambda: house.forecasts.exists("after"), 90, worker.log)
        recovery.has_ended()
        assert worker.process.poll() is None


def test_a_forecast_outlives_a_redis_that_goes_away_while_it_is_made(house: House, recovery: Recovery) -> None:
    with worker_on(house.port, house.folder) as worker:
        house.enqueue("during", num_samples=150, horizon=400)
        eventually(lambda: house.queue.status("during").progress, 30, worker.log)
        house.kill_redis()
        worker.wait_for_log("waiting_for_redis", 120)
        house.start_redis()
        recovery.begins()
        eventually(lambda: house.forecasts.exists("during"), 60, worker.log)
        recovery.has_ended()
        house.enqueue("after", num_samples=2)
        eventually(lambda: house.forecasts.exists("after"), 60, worker.log)
        assert house.queue.status("during").state == "finished"
        assert worker.process.poll() is None
        assert "Traceback" not in worker.log()


def test_a_panel_outlives_a_redis_that_goes_away_while_it_is_drawn(house: House, recovery: Recovery) -> None:
    with worker_on(house.port, house.folder) as worker:
        request = forecast_request(house.snapshot_id, num_samples=100, horizon=300)
        enqueue_together(house.queue, request, "one", "two")
        eventually(lambda: house.queue.status("two").progress, 30, worker.log)
        house.kill_redis()
        worker.wait_for_log("waiting_for_redis", 120)
        house.start_redis()
        recovery.begins()
        eventually(lambda: all(house.forecasts.exists(one) for one in ("one", "two")), 60, worker.log)
        recovery.has_ended()
        eventually(lambda: all(house.queue.status(one).state == "finished" for one in ("one", "two")), 60, worker.log)
        assert [house.forecasts.load(one).provenance.side_by_side for one in ("one", "two")] == [2, 2]
        assert worker.process.poll() is None
        assert "Traceback" not in worker.log()


def test_a_backtest_outlives_a_redis_that_goes_away_while_workers_make_it(
    house: House, tmp_path: Path, recovery: Recovery
) -> None:
    file, out = write_klines(tmp_path, 24 * 8), tmp_path / "out"
    with worker_on(house.port, house.folder) as worker:
        environment = {"KRONOS_REDIS__URL": f"redis://127.0.0.1:{house.port}/0"}
        running = backtest(environment, file, out, "--paths", "200", "--workers")
        eventually(lambda: len(lines_of(out)) >= 2, 60, worker.log)
        house.kill_redis()
        worker.wait_for_log("waiting_for_redis", 120)
        house.start_redis()
        recovery.begins()
        assert ended(running)["forecasts"] == 23
        recovery.has_ended()
        assert worker.process.poll() is None
    ids = [line["forecast"]["id"] for line in lines_of(out)]
    assert len(ids) == len(set(ids)) == 23
