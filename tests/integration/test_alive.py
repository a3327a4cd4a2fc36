"""`kronos-live alive`, which the containers' healthchecks ask, beside real services."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from redis import Redis

from shared.forecast_queue import ForecastQueue
from tests.builders import settings
from tests.conftest import free_port
from tests.house.test_kubernetes import WHILE_REDIS_ANSWERS
from tests.ingest_parts import nowhere
from tests.integration.conftest import Run
from tests.processes import eventually, service
from tests.web_server import unheard_of


@pytest.mark.parametrize(("command", "ready"), [("ingest", "fetches_taken"), ("worker", "worker_ready")])
def test_what_works_on_this_host_is_alive_until_nothing_is_heard_of_it(
    run: Run, redis: Redis, environment: dict[str, str], tmp_path: Path, command: str, ready: str
) -> None:
    nobody = run("alive")
    assert (nobody.returncode, "No worker, ingest or watcher of alerts of this host" in nobody.stderr) == (1, True)
    with service(command, {**environment, "KRONOS_VENUES__BINANCE_URLS": nowhere()}, tmp_path) as running:
        running.wait_for_log(ready)
        heard = run("alive")
        assert (heard.returncode, "gave a sign of life" in heard.stdout) == (0, True)
        running.end(signal.SIGKILL)
    queue = ForecastQueue(redis, settings().queue)
    [name] = [*queue.worker_names(), *(one.name for one in queue.fetches.ingest_statuses(0))]
    unheard_of(redis, name, seconds=90)
    gone = run("alive")
    assert (gone.returncode, f"{name} of this host last gave a sign of life 9" in gone.stderr) == (1, True)


def test_who_watches_for_alerts_is_alive_too(
    run: Run, redis: Redis, environment: dict[str, str], tmp_path: Path
) -> None:
    told = {"KRONOS_ALERTS__ENABLED": "true", "KRONOS_ALERTS__CHANNELS": "json://127.0.0.1:9"}
    with service("alerts run", {**environment, **told}, tmp_path) as running:
        running.wait_for_log("alerts_started")
        eventually(lambda: run("alive").returncode == 0, 60, running.log)
        running.end(signal.SIGKILL)
    redis.zincrby("kronos:alerts:watchers", -90_000, socket.gethostname())
    gone = run("alive")
    assert (gone.returncode, "kronos-live alerts run of this host last gave a sign of life 9" in gone.stderr) == (
        1,
        True,
    )


def test_what_works_on_another_host_says_nothing_of_this_one(
    run: Run, redis: Redis, environment: dict[str, str], tmp_path: Path
) -> None:
    with service("ingest", {**environment, "KRONOS_VENUES__BINANCE_URLS": nowhere()}, tmp_path) as running:
        running.wait_for_log("fetches_taken")
        [worker] = redis.smembers("rq:workers:ingest")
        redis.hset(worker, "hostname", "elsewhere")
        assert run("alive").returncode == 1


def test_kubernetes_starts_a_pod_anew_only_where_redis_answers_and_has_not_heard_of_it(
    redis: Redis, environment: dict[str, str], tmp_path: Path
) -> None:
    def probe(redis_url: str) -> int:
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        told = {**os.environ, "PATH": path, "KRONOS_REDIS__URL": redis_url}
        return subprocess.run(WHILE_REDIS_ANSWERS, env=told, check=False, capture_output=True).returncode

    redis_url = environment["KRONOS_REDIS__URL"]
    assert probe(redis_url) == 1
    assert probe(f"redis://127.0.0.1:{free_port()}/0") == 0
    with service("ingest", {**environment, "KRONOS_VENUES__BINANCE_URLS": nowhere()}, tmp_path) as running:
        running.wait_for_log("fetches_taken")
        assert probe(redis_url) == 0


def test_an_absent_redis_is_told_apart(run: Run) -> None:
    assert run("alive", KRONOS_REDIS__URL=f"redis://127.0.0.1:{free_port()}/0").returncode == 5
