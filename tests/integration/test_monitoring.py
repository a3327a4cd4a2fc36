"""The alerts and the dashboard: told by promtool, and asked of a real Prometheus that scrapes running services."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from redis import Redis

from services.web.situation import Stores
from tests.alert_receiver import receiver
from tests.builders import forecast_request, kline_window
from tests.conftest import PROJECT, free_port, skip_or_fail
from tests.house.metric_table import TOLD_BY
from tests.ingest_parts import nowhere
from tests.integration.test_alerts import knobs as watching_for
from tests.integration.test_publish import publishing
from tests.integration.test_service_metrics import ANY_PORT_TO_PUBLISH, ingest, metrics_address
from tests.integration.test_web_metrics import filled
from tests.processes import eventually, service
from tests.venue_server import VenueServer

MONITORING = PROJECT / "monitoring"
ALERTS, ALERT_TESTS = MONITORING / "alerts.yml", MONITORING / "alerts.test.yml"
DASHBOARD = MONITORING / "grafana" / "dashboards" / "kronos-live.json"


def tool(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        skip_or_fail(name, f"no {name} is on the PATH (it is in Debian's package prometheus)")
    return str(found)


def promtool(*arguments: str) -> str:
    done = subprocess.run([tool("promtool"), *arguments], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def alerts() -> dict[str, str]:
    """The expression of each alert, by its name."""
    [group] = yaml.safe_load(ALERTS.read_text())["groups"]
    return {rule["alert"]: rule["expr"] for rule in group["rules"]}


def dashboard_queries() -> list[str]:
    panels = json.loads(DASHBOARD.read_text())["panels"]
    return [target["expr"] for panel in panels for target in panel["targets"]]


def test_each_alert_speaks_and_is_quiet_when_it_should() -> None:
    assert "SUCCESS" in promtool("test", "rules", str(ALERT_TESTS))


def test_promtool_accepts_what_prometheus_is_given() -> None:
    assert f"{len(alerts())} rules found" in promtool("check", "config", str(MONITORING / "prometheus.yml"))


def test_of_each_alert_both_is_tested() -> None:
    tests = [one for group in yaml.safe_load(ALERT_TESTS.read_text())["tests"] for one in group["alert_rule_test"]]
    for name in alerts():
        speaks = {bool(one.get("exp_alerts")) for one in tests if one["alertname"] == name}
        assert speaks == {True, False}, name


def test_alerts_and_dashboard_speak_of_metrics_that_there_are() -> None:
    known = {one.name for metrics in TOLD_BY.values() for one in metrics}
    for query in [*alerts().values(), *dashboard_queries()]:
        named = {re.sub(r"_(bucket|sum|count)$", "", name) for name in re.findall(r"kronos_\w+", query)}
        assert named <= known, query


def test_compose_and_dashboard_name_the_same_source() -> None:
    provisioned = yaml.safe_load((MONITORING / "grafana/provisioning/datasources/prometheus.yml").read_text())
    [source] = provisioned["datasources"]
    panels = json.loads(DASHBOARD.read_text())["panels"]
    assert {panel["datasource"]["uid"] for panel in panels} == {source["uid"]}


@contextmanager
def prometheus(folder: Path, targets: dict[str, str]) -> Iterator[httpx.Client]:
    """A real Prometheus with our rules, that scrapes these addresses (host:port by job) each second; gives a client of it."""
    configuration = yaml.safe_load((MONITORING / "prometheus.yml").read_text())
    configuration["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    configuration["rule_files"] = [str(ALERTS)]
    assert {job["job_name"] for job in configuration["scrape_configs"]} == set(targets)
    configuration["scrape_configs"] = [
        {"job_name": name, "static_configs": [{"targets": [address]}]} for name, address in targets.items()
    ]
    (folder / "prometheus.yml").write_text(yaml.safe_dump(configuration))
    port = free_port()
    command = [
        tool("prometheus"),
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    with (folder / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=30) as client:
            eventually(lambda: _is_ready(client), 120, (folder / "prometheus.log").read_text)
            yield client
    finally:
        process.terminate()
        process.wait(timeout=60)


def _is_ready(client: httpx.Client) -> bool:
    try:
        return client.get("/-/ready").status_code == 200
    except httpx.TransportError:
        return False


def asked(client: httpx.Client, query: str) -> list[dict[str, Any]]:
    """What Prometheus answers to a query."""
    answer = client.get("/api/v1/query", params={"query": query})
    assert answer.status_code == 200, f"{query}: {answer.text}"
    result: list[dict[str, Any]] = answer.json()["data"]["result"]
    return result


def _host(address: str) -> str:
    return address.removeprefix("http://").removesuffix("/metrics")


@pytest.fixture
def told_everything(
    web: httpx.Client, redis: Redis, redis_url: str, stores: Stores, environment: dict[str, str], tmp_path: Path
) -> Iterator[httpx.Client]:
    """A Prometheus that scrapes a web service with a record and one of each other, which all have done something."""
    tool("prometheus")
    filled(web, redis, stores)
    with (
        VenueServer() as venue,
        ingest(redis_url, tmp_path, nowhere(), venue.url) as fetching,
        service("worker", {**environment, "KRONOS_METRICS__WORKER_PORT": "0"}, tmp_path) as working,
        publishing(redis_url, tmp_path / "site", **ANY_PORT_TO_PUBLISH) as publisher,
        receiver() as hook,
        service(
            "alerts run", watching_for(redis_url, hook.address, KRONOS_METRICS__ALERTS_PORT="0"), tmp_path
        ) as watching,
    ):
        targets = {
            "kronos-web": _host(str(web.base_url)),
            "kronos-ingest": _host(metrics_address(fetching)),
            "kronos-worker": _host(metrics_address(working)),
            "kronos-publish": _host(metrics_address(publisher)),
            "kronos-alerts": _host(metrics_address(watching)),
        }
        with prometheus(tmp_path, targets) as client:
            eventually(lambda: len(asked(client, "up == 1")) == len(targets), 120)
            snapshot = stores.klines.save(kline_window(400))
            for name in ("one", "two"):  # the schedule's candle has its forecast already
                assert stores.queue.enqueue(name, forecast_request(snapshot, scheduled=False, num_samples=2))
            yield client


def test_every_query_of_the_dashboard_and_of_the_alerts_is_answered(told_everything: httpx.Client) -> None:
    def unanswered() -> list[str]:
        return [query for query in dashboard_queries() if not asked(told_everything, query)]

    eventually(lambda: not unanswered(), 180, lambda: "\n".join(unanswered()))
    for query in alerts().values():
        asked(told_everything, query)
    rules = told_everything.get("/api/v1/rules").json()["data"]["groups"]
    assert {rule["name"]: rule["health"] for group in rules for rule in group["rules"]} == dict.fromkeys(alerts(), "ok")
