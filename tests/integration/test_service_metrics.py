"""/metrics of ingest and of workers, as Prometheus reads it: from running processes, on ports of their own."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from prometheus_client.metrics_core import Metric as Family
from redis import Redis

from shared.forecast_queue import ForecastQueue
from shared.forecast_store import ForecastStore
from shared.kline_store import KlineStore
from tests.builders import forecast_request, kline_window, settings
from tests.conftest import free_port
from tests.house.metric_table import DOCUMENT
from tests.ingest_parts import nowhere
from tests.integration.test_web_metrics import read, value
from tests.processes import Service, eventually, service
from tests.venue_server import VenueServer

SERIES = {"symbol": "BTCUSDT", "interval": "1h"}


def metrics_address(running: Service) -> str:
    """Where a service has logged that it tells its metrics."""
    running.wait_for_log("metrics_served")
    lines = [json.loads(line) for line in running.log().splitlines() if line.startswith("{")]
    return next(line["address"] for line in lines if line["event"] == "metrics_served")


def scraped(running: Service) -> dict[str, Family]:
    answer = httpx.get(metrics_address(running), timeout=30, trust_env=False)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/plain; version=0.0.4; charset=utf-8")
    return read(answer.text)


def documented(by: str) -> set[str]:
    return set(re.findall(rf"^\| `(kronos_\w+)` \| {by} \|", DOCUMENT.read_text(), re.MULTILINE))


def in_all(families: dict[str, Family], name: str, **labels: str) -> float:
    """How many observations a histogram has."""
    [found] = [
        one.value
        for one in families[name].samples
        if one.name == f"{name}_count" and labels.items() <= one.labels.items()
    ]
    return float(found)


def told(running: Service, name: str, at_least: float, **labels: str) -> dict[str, Family]:
    """A scrape in which a counter has come so far."""

    def far_enough() -> bool:
        found = scraped(running)[name].samples
        return any(one.value >= at_least for one in found if labels.items() <= one.labels.items())

    eventually(far_enough, 120, running.log)
    return scraped(running)


@contextmanager
def ingest(redis_url: str, folder: Path, *venues: str, **knobs: str) -> Iterator[Service]:
    environment = {
        "KRONOS_REDIS__URL": redis_url,
        "KRONOS_DATA__VENUES": "binance",
        "KRONOS_VENUES__BINANCE_URLS": ",".join(venues),
        "KRONOS_METRICS__INGEST_PORT": "0",
        **knobs,
    }
    with service("ingest", environment, folder) as running:
        yield running


def test_ingest_tells_how_venues_answered_and_how_its_turns_ended(redis_url: str, tmp_path: Path) -> None:
    away = nowhere()
    with VenueServer() as server, ingest(redis_url, tmp_path, away, server.url) as running:
        families = told(running, "kronos_ingest_cycles_total", 1, outcome="real", **SERIES)
    assert {name for name in families if name.startswith("kronos_")} == documented("ingest")
    assert value(families, "kronos_venue_failures_total", venue=f"binance ({away})") >= 1
    assert value(families, "kronos_venue_answers_total", venue=f"binance ({server.url})") >= 1
    assert value(families, "kronos_venue_weight_used", venue=f"binance ({server.url})") == 2
    assert abs(value(families, "kronos_clock_offset_seconds")) < 60
    assert value(families, "process_resident_memory_bytes") > 1e6


def test_made_up_klines_and_a_venue_that_wants_to_be_left_alone_are_told(redis_url: str, tmp_path: Path) -> None:
    with VenueServer() as server:
        server.fail("429", retry_after=3000)
        with ingest(redis_url, tmp_path, server.url) as running:
            families = told(running, "kronos_ingest_cycles_total", 1, outcome="simulated", **SERIES)
    assert value(families, "kronos_venue_left_alone_until_seconds", venue=f"binance ({server.url})") > 1.7e9


@pytest.fixture
def worker_environment(redis: Redis, environment: dict[str, str]) -> dict[str, str]:
    return {**environment, "KRONOS_METRICS__WORKER_PORT": str(free_port())}


def test_a_worker_tells_how_its_jobs_ended_how_long_they_waited_and_what_each_phase_took(
    redis: Redis, worker_environment: dict[str, str], tmp_path: Path
) -> None:
    queue = ForecastQueue(redis, settings().queue)
    snapshot = KlineStore(redis, keep=10).save(kline_window(400))
    beside = {**worker_environment, "KRONOS_WORKER__FORECASTS_AT_ONCE": "2"}
    for forecast_id in ("one", "two"):
        assert queue.enqueue(forecast_id, forecast_request(snapshot, scheduled=False, num_samples=3))
    assert queue.enqueue("lost", forecast_request("deadbeefdeadbeef", scheduled=False))
    with service("worker", beside, tmp_path) as running:
        families = told(running, "kronos_worker_jobs_total", 1, kind="forecast", outcome="failed")
    assert {name for name in families if name.startswith("kronos_")} == documented("worker")
    assert value(families, "kronos_worker_jobs_total", kind="forecast", outcome="finished") == 2
    assert in_all(families, "kronos_queue_wait_seconds", kind="forecast") == 3
    assert value(families, "kronos_paths_drawn_total") == 6
    phases = {one.labels["phase"] for one in families["kronos_forecast_phase_seconds"].samples}
    assert phases == set(ForecastStore(redis, keep=10).load("one").provenance.timings_s)
    assert in_all(families, "kronos_forecast_phase_seconds", phase="total") == 2


def test_two_services_that_are_given_the_same_port_take_two(redis_url: str, tmp_path: Path) -> None:
    port = str(free_port())
    with (
        ingest(redis_url, tmp_path, nowhere(), KRONOS_METRICS__INGEST_PORT=port) as one,
        ingest(redis_url, tmp_path, nowhere(), KRONOS_METRICS__INGEST_PORT=port) as two,
    ):
        assert metrics_address(one) != metrics_address(two)
        for running in (one, two):
            assert metrics_address(running).startswith("http://127.0.0.1:")
            assert "kronos_venue_failures_total" in scraped(running)


def test_where_no_port_can_be_had_that_is_one_warning_and_the_service_goes_on(redis_url: str, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 65_535))  # the last one there is, so there is none after it
        taken.listen()
        with (
            VenueServer() as server,
            ingest(redis_url, tmp_path, server.url, KRONOS_METRICS__INGEST_PORT="65535") as running,
        ):
            running.wait_for_log("forecast_enqueued")
    [warned] = [line for line in running.log().splitlines() if "metrics_not_served" in line]
    assert "from 65535 to 65535 on 127.0.0.1 can be used (Address already in use)" in warned
    assert "metrics.ingest_port" in warned


def test_whoever_wants_no_metrics_opens_no_port(redis_url: str, tmp_path: Path) -> None:
    with VenueServer() as server, ingest(redis_url, tmp_path, server.url, KRONOS_METRICS__ENABLED="false") as running:
        running.wait_for_log("forecast_enqueued")
        assert "metrics_" not in running.log()


def test_there_is_nothing_but_metrics_at_that_port(redis_url: str, tmp_path: Path) -> None:
    with ingest(redis_url, tmp_path, nowhere()) as running:
        address = metrics_address(running).removesuffix("/metrics")
        assert httpx.get(f"{address}/", trust_env=False).status_code == 404
        assert httpx.post(f"{address}/metrics", trust_env=False).status_code == 501
