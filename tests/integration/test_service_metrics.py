"""/metrics of all services but web, as Prometheus reads it: from running processes, on ports of their own."""

from __future__ import annotations

import json
import re
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from prometheus_client.metrics_core import Metric as Family
from redis import Redis

from services.web.situation import Stores
from shared.forecast_queue import ForecastQueue
from shared.forecast_store import ForecastStore
from shared.kline_store import KlineStore
from tests.alert_receiver import SECRET, receiver
from tests.builders import forecast_request, kline_window, settings
from tests.conftest import free_port, skip_or_fail
from tests.house.metric_table import DOCUMENT
from tests.ingest_parts import nowhere
from tests.integration.test_alerts import knobs as watching_for
from tests.integration.test_publish import publishing, shows
from tests.integration.test_web_metrics import read, value
from tests.processes import Service, eventually, service
from tests.venue_server import VenueServer
from tests.web_server import HOUR_MS, forecast_stored, ingested, newest_closed_candle

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


ANY_PORT_TO_PUBLISH = {"KRONOS_METRICS__PUBLISH_PORT": "0"}


def test_publishing_tells_what_was_written_and_when(redis_url: str, stores: Stores, tmp_path: Path) -> None:
    with publishing(redis_url, tmp_path / "site", **ANY_PORT_TO_PUBLISH) as running:
        waiting = told(running, "kronos_site_steps_total", 2, step="read")
        assert value(waiting, "kronos_site_failures_in_a_row", step="read") == 0, "no forecast yet is no failure"
        shows(tmp_path / "site", forecast_stored(stores, ingested(stores)).id, running)
        families = told(running, "kronos_site_steps_total", 1, step="write")
    assert {name for name in families if name.startswith("kronos_")} == documented("publish")
    assert {one.labels["step"] for one in families["kronos_site_step_done_seconds"].samples} == {"read", "write"}
    assert value(families, "kronos_site_step_done_seconds", step="write") > 1.7e9
    assert families["kronos_site_failures_total"].samples == []


def test_publishing_tells_by_what_kind_of_reason_it_fails(redis_url: str, stores: Stores, tmp_path: Path) -> None:
    if shutil.which("git") is None:
        skip_or_fail("git", "no git is on the PATH (Debian: apt-get install git)")
    secret = f"https://me:{SECRET}@127.0.0.1:{free_port()}/site.git"
    pushes = {
        **ANY_PORT_TO_PUBLISH,
        "KRONOS_PUBLISH__GIT__ENABLED": "true",
        "KRONOS_PUBLISH__GIT__REPOSITORY": secret,
        "KRONOS_PUBLISH__GIT__PUSH": "true",
    }
    with publishing(redis_url, tmp_path / "site", **pushes) as running:
        for failures, hours_ago in ((1, 1), (2, 0)):
            forecast_stored(stores, ingested(stores, last_open_time_ms=newest_closed_candle() - hours_ago * HOUR_MS))
            families = told(running, "kronos_site_failures_total", failures, step="push", reason="no_network")
            assert value(families, "kronos_site_failures_in_a_row", step="push") == failures
        assert value(families, "kronos_site_steps_total", step="commit") == 2
        assert SECRET not in httpx.get(metrics_address(running), timeout=30, trust_env=False).text


def test_a_folder_that_cannot_be_written_is_told_as_such(redis_url: str, stores: Stores, tmp_path: Path) -> None:
    (tmp_path / "site").write_text("a file where the folder should be")
    forecast_stored(stores, ingested(stores))
    with publishing(redis_url, tmp_path / "site", **ANY_PORT_TO_PUBLISH) as running:
        families = told(running, "kronos_site_failures_in_a_row", 1, step="write")
    assert value(families, "kronos_site_failures_total", step="write", reason="folder") >= 1


def test_alerts_tell_what_was_judged_and_how_channels_took_it_and_no_address(
    redis_url: str, stores: Stores, tmp_path: Path
) -> None:
    rules = "[{when: upside_above, level: 0.4}, {when: worker_gone}]"
    with receiver() as hook:
        environment = watching_for(redis_url, hook.address, rules, KRONOS_METRICS__ALERTS_PORT="0")
        hook.status = 500
        with service("alerts run", environment, tmp_path) as running:
            running.wait_for_log("alerts_started")
            forecast_stored(stores, ingested(stores))
            told(running, "kronos_alert_deliveries_total", 1, channel="json", outcome="put_off")
            hook.status = 200
            families = told(running, "kronos_alert_deliveries_total", 2, channel="json", outcome="delivered")
            address = metrics_address(running)
            text = httpx.get(address, timeout=30, trust_env=False).text
            assert running.end() == 0
    assert {name for name in families if name.startswith("kronos_")} == documented("alerts")
    assert value(families, "kronos_alert_judgements_total", when="upside_above", outcome="holds") == 1
    assert value(families, "kronos_alert_judgements_total", when="worker_gone", outcome="holds") >= 1
    for when in ("upside_above", "worker_gone"):
        assert value(families, "kronos_alert_messages_total", when=when, kind="alert") == 1
    for of in ("forecasts", "system"):
        assert value(families, "kronos_alert_looked_seconds", of=of) > 1.7e9
    assert value(families, "kronos_alert_delivered_seconds", channel="json") > 1.7e9
    assert SECRET not in text
    assert str(hook.port) not in text


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
        assert httpx.get(f"{address}/", timeout=30, trust_env=False).status_code == 404
        assert httpx.post(f"{address}/metrics", timeout=30, trust_env=False).status_code == 501
