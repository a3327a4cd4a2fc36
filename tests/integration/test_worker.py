"""A real worker process, a real Redis, and a tiny model: requests go in, forecasts come out, nothing is lost."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path

import httpx
import pytest
from redis import Redis

from services.inference.processors import cores_available
from shared.forecast_queue import ForecastQueue
from shared.forecast_store import ForecastStore
from shared.kline_store import KlineStore
from shared.queue_overview import SIGN_OF_LIFE_EVERY_S, SILENT_AFTER_S
from tests.builders import forecast_request, kline_window, settings
from tests.conftest import free_port
from tests.faults.redis_faults import FaultyRedis
from tests.processes import Service, eventually, service
from tests.tiny_models import write_tiny_models
from tests.venue_server import VenueServer


class House:
    """The stores and the queue as a service outside the worker sees them, with one snapshot in store."""

    def __init__(self, redis: Redis, environment: dict[str, str], folder: Path) -> None:
        self.redis, self.environment, self.folder = redis, environment, folder
        self.queue = ForecastQueue(redis, settings().queue)
        self.forecasts = ForecastStore(redis, keep=100)
        self.snapshot_id = KlineStore(redis, keep=10).save(kline_window(400))

    def enqueue(self, forecast_id: str, **wishes: object) -> None:
        assert self.queue.enqueue(forecast_id, forecast_request(self.snapshot_id, scheduled=False, **wishes))

    def ends(self, forecast_id: str, seconds: float = 60) -> str:
        """Wait for the end of a forecast and return its state."""
        eventually(lambda: self.queue.status(forecast_id).state in ("finished", "failed"), seconds)
        return self.queue.status(forecast_id).state


@pytest.fixture
def house(redis: Redis, redis_url: str, tmp_path: Path) -> House:
    environment = {
        "KRONOS_REDIS__URL": redis_url,
        "KRONOS_MODEL__LOCAL_DIR": str(write_tiny_models(tmp_path / "models")),
        "KRONOS_MODEL__ALLOW_HUB": "false",
        "KRONOS_WORKER__THREADS": "1",
    }
    return House(redis, environment, tmp_path)


@pytest.fixture
def worker(house: House) -> Iterator[Service]:
    with service("worker", house.environment, house.folder) as running:
        running.wait_for_log("worker_ready")
        yield running


def test_a_request_becomes_a_stored_forecast_with_its_paths(house: House, worker: Service) -> None:
    house.enqueue("one", num_samples=20)
    assert house.ends("one") == "finished"
    forecast = house.forecasts.load("one")
    assert house.forecasts.load_paths("one").shape == (20, 24, 6)
    assert forecast.provenance.snapshot_id == house.snapshot_id


def test_two_processes_give_the_same_paths_for_the_same_seed(house: House, worker: Service) -> None:
    house.enqueue("first", seed=11)
    assert house.ends("first") == "finished"
    worker.end()
    with service("worker", house.environment, house.folder):
        house.enqueue("again", seed=11)
        assert house.ends("again") == "finished"
    assert (house.forecasts.load_paths("first") == house.forecasts.load_paths("again")).all()


def test_a_model_that_cannot_be_loaded_fails_at_once_with_a_reason_and_the_worker_goes_on(
    house: House, worker: Service
) -> None:
    house.enqueue("unknown", model="Kronos-base")
    house.enqueue("known")
    assert house.ends("unknown") == "failed"
    status = house.queue.status("unknown")
    assert status.error is not None
    assert "Kronos-base cannot be loaded" in status.error
    assert "Traceback" not in status.error
    assert status.tries == 1
    assert house.ends("known") == "finished"


def test_a_strangers_card_fails_its_forecast_alone_and_comes_to_the_page_as_text(
    house: House, worker: Service, web: httpx.Client
) -> None:
    card = Path(house.environment["KRONOS_MODEL__LOCAL_DIR"]) / "Kronos-mini" / "MODEL_CARD.md"
    card.write_text("---\nsampling: {<script>alert(1)</script>: 1}\n---\n")
    house.enqueue("strange", model="Kronos-mini")
    house.enqueue("known")
    assert house.ends("strange") == "failed"
    assert f"The head of {card} is wrong: sampling.'<script>alert(1)</script>' is 1" in str(
        house.queue.status("strange").error
    )
    assert house.ends("known") == "finished"
    page = web.get("/forecasts/strange", headers={"Accept": "text/html"}).text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "<script>alert" not in page


def test_a_snapshot_that_is_gone_is_named(house: House, worker: Service) -> None:
    assert house.queue.enqueue("orphan", forecast_request("deadbeefdeadbeef"))
    assert house.ends("orphan") == "failed"
    assert "deadbeefdeadbeef" in str(house.queue.status("orphan").error)


def test_what_fails_without_a_permanent_reason_is_tried_again(house: House, worker: Service) -> None:
    house.redis.hset(f"kronos:snapshot:{house.snapshot_id}", "values", b"spoiled")
    house.enqueue("spoiled")
    assert house.ends("spoiled") == "failed"
    status = house.queue.status("spoiled")
    assert status.tries == 1 + settings().queue.retries
    assert "failed unexpectedly" in str(status.error)


def test_sigterm_lets_the_running_forecast_end(house: House, worker: Service) -> None:
    house.enqueue("long", num_samples=100, horizon=200)
    eventually(lambda: house.queue.status("long").progress, 30)
    assert worker.end(signal.SIGTERM) == 0
    assert house.queue.status("long").state == "finished"
    assert house.forecasts.exists("long")
    assert house.queue.workers() == 0


def test_a_worker_that_waits_gives_a_sign_of_life_well_before_it_is_called_silent(
    house: House, worker: Service
) -> None:
    def last_sign() -> datetime:
        [alone] = house.queue.worker_statuses(time.time_ns() // 1_000_000)
        return alone.heartbeat_at

    eventually(lambda: house.queue.workers() == 1, 10)
    first = last_sign()
    eventually(lambda: last_sign() > first, SIGN_OF_LIFE_EVERY_S + 5)
    assert 2 * SIGN_OF_LIFE_EVERY_S < SILENT_AFTER_S


def test_workers_of_one_machine_share_its_cores(house: House) -> None:
    environment = {**house.environment, "KRONOS_WORKER__THREADS": "0"}
    with service("worker", environment, house.folder) as one, service("worker", environment, house.folder) as two:
        for running in (one, two):
            running.wait_for_log("worker_ready")
        eventually(lambda: house.queue.workers() == 2, 10)
        house.enqueue("shared", num_samples=2, horizon=2)
        assert house.ends("shared") == "finished"
    assert house.forecasts.load("shared").provenance.threads == cores_available(neighbours=2)


def test_a_worker_that_starts_before_redis_waits_for_it_and_says_so(house: House) -> None:
    environment = {**house.environment, "KRONOS_REDIS__URL": "redis://127.0.0.1:1/0"}
    with service("worker", environment, house.folder) as waiting:
        waiting.wait_for_log("waiting_for_redis")
        assert "KRONOS_REDIS__URL" in waiting.log()
        assert "Traceback" not in waiting.log()


def test_a_worker_whose_configured_model_cannot_be_had_ends_with_one_sentence(house: House) -> None:
    environment = {
        **house.environment,
        "KRONOS_MODEL__MODEL_NAME": "Kronos-base",
        "KRONOS_MODEL__ALLOW_BUNDLED": "false",
    }
    with service("worker", environment, house.folder) as failing:
        assert failing.process.wait(timeout=60) == 1
        assert "kronos-live: The model Kronos-base cannot be loaded" in failing.log()
        assert "Traceback" not in failing.log()


def test_a_worker_says_which_model_it_has_loaded(house: House, worker: Service) -> None:
    [status] = house.queue.worker_statuses(time.time_ns() // 1_000_000)
    assert status.model is not None
    assert (status.model.name, status.model.source, status.model.device) == ("Kronos-small", "local", "cpu")
    assert status.model.dtype in {"float32", "bfloat16", "int8"}
    assert status.process == worker.process.pid
    assert status.heartbeat_age_s < 60


@pytest.mark.parametrize("moment", ["metrics_served", "worker_not_registered"])
def test_a_worker_that_is_told_to_end_before_it_is_at_work_ends_well(house: House, moment: str) -> None:
    house.redis.execute_command("ACL", "SETUSER", "default", "-del")  # which registering needs
    try:
        with service("worker", house.environment, house.folder) as worker:
            worker.wait_for_log(moment)
            assert worker.end(signal.SIGTERM, 60) == 0
            assert "Traceback" not in worker.log()
    finally:
        house.redis.execute_command("ACL", "SETUSER", "default", "+@all")
    assert house.queue.workers() == 0


def test_a_worker_that_is_told_to_end_while_redis_hangs_waits_no_longer(house: House, tmp_path: Path) -> None:
    redis = FaultyRedis(free_port(), tmp_path)
    try:
        knobs = {**house.environment, "KRONOS_REDIS__URL": f"redis://127.0.0.1:{redis.port}/0"}
        with service("worker", knobs, house.folder) as worker:
            worker.wait_for_log("worker_ready")
            lift = redis.stop()
            try:
                worker.wait_for_log("heartbeat_cannot_be_told")
                assert worker.end(signal.SIGTERM, 120) == 0
                assert "worker_not_signed_off" in worker.log()
            finally:
                lift()
    finally:
        redis.end()


def test_a_worker_that_is_told_to_end_while_it_draws_and_redis_takes_nothing_ends_what_it_is_at(house: House) -> None:
    with service("worker", house.environment, house.folder) as worker:
        worker.wait_for_log("worker_ready")
        house.enqueue("at-work", num_samples=300, horizon=400)
        eventually(lambda: house.queue.status("at-work").progress, 60, worker.log)
        house.redis.config_set("maxmemory", 1)
        try:
            worker.process.send_signal(signal.SIGTERM)
            worker.wait_for_log("heartbeat_cannot_be_told")
        finally:
            house.redis.config_set("maxmemory", 0)
        assert worker.process.wait(timeout=240) == 0
    assert house.queue.status("at-work").state == "finished"
    assert house.queue.status("at-work").tries == 1
    assert "forecast_failed" not in worker.log()


def threads_of(running: Service) -> int:
    return len(list(Path(f"/proc/{running.process.pid}/task").iterdir()))


def test_what_breaks_down_with_redis_and_begins_anew_leaves_no_thread_behind(house: House) -> None:
    with ExitStack() as running:
        venue = running.enter_context(VenueServer(real=False))
        knobs = {**house.environment, "KRONOS_DATA__VENUES": "binance", "KRONOS_VENUES__BINANCE_URLS": venue.url}
        worker, ingest = (running.enter_context(service(one, knobs, house.folder)) for one in ("worker", "ingest"))
        worker.wait_for_log("worker_ready")
        ingest.wait_for_log("fetches_taken")
        before = [threads_of(worker), threads_of(ingest)]
        for broken in range(3):
            house.redis.config_set("maxmemory", 1)
            eventually(lambda times=broken: ingest.log().count("fetch_worker_broke_down") > times, 60, ingest.log)
            house.redis.config_set("maxmemory", 0)
            eventually(lambda times=broken: ingest.log().count("fetches_taken") > times + 1, 60, ingest.log)
        eventually(lambda: [threads_of(worker), threads_of(ingest)] <= before, 30)
