"""`kronos-live run`: all services in real use, several workers, and an end that takes them all and nothing else."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from redis import Redis

from tests.conftest import PROJECT, free_port
from tests.processes import PATIENCE, eventually, processes_of

STARTS_WITHIN_S = 120
ENDS_WITHIN_S = 60 * PATIENCE


class Run:
    """A run in a process group of its own, as in a terminal; it reaches neither a venue nor the hub."""

    def __init__(self, folder: Path, *options: str, port: int, **environment: str) -> None:
        self.port = port
        self._folder = folder
        self.mark = f"RUN_TEST_MARK={uuid4().hex}"
        nowhere = f"http://127.0.0.1:{free_port()}"
        name, value = self.mark.split("=")
        self._log = folder / "run.log"
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "services.cli", "run", *options],
                cwd=folder,
                env={
                    **os.environ,
                    name: value,
                    "HF_ENDPOINT": nowhere,
                    "HF_HOME": str(folder / "hub"),
                    "KRONOS_MODEL__LOCAL_DIR": str(folder / "no-models"),
                    "KRONOS_VENUES__BINANCE_URLS": nowhere,
                    "KRONOS_VENUES__OKX_URL": nowhere,
                    "KRONOS_VENUES__BYBIT_URL": nowhere,
                    "KRONOS_WEB__PORT": str(port),
                    "PYTHONPATH": str(PROJECT),
                    **environment,
                },
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def log(self) -> str:
        return self._log.read_text(errors="replace")

    def wait_for(self, words: str) -> None:
        eventually(lambda: words in self.log() or self.process.poll() is not None, STARTS_WITHIN_S, self.log)
        assert words in self.log(), self.log()[-3000:]

    def get(self, path: str) -> Any:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=30) as answer:
            return json.load(answer)

    def commands(self) -> list[str]:
        """Command lines of what of it runs."""
        return processes_of(self.mark, self._folder)

    def end(self, sent: signal.Signals = signal.SIGINT) -> int:
        """What a terminal does on Ctrl+C: the signal goes to the whole process group."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, sent)
        return self.process.wait(timeout=ENDS_WITHIN_S)


@pytest.fixture
def runs() -> Iterator[list[Run]]:
    """What is started and put in here ends with the test."""
    started: list[Run] = []
    yield started
    for run in started:
        run.end(signal.SIGTERM)


def test_it_forecasts_by_its_settings_and_ctrl_c_ends_all_that_it_started(tmp_path: Path, runs: list[Run]) -> None:
    config = tmp_path / "mine.yaml"
    config.write_text("{data: {timeframe: 4h, cache_enabled: true}, sampling: {num_samples: 10}}\n")
    run = Run(tmp_path, "--workers", "2", "--config", "mine.yaml", port=free_port())
    runs.append(run)
    run.wait_for(f"Kronos Live: http://127.0.0.1:{run.port}")
    latest = run.get("/api/v1/forecasts/latest?symbol=BTCUSDT&interval=4h")
    assert latest["forecast"]["request"]["num_samples"] == 10
    assert "SIMULATED DATA" in latest["labels"]
    eventually(lambda: len(run.get("/api/v1/workers")["workers"]) == 2, STARTS_WITHIN_S, run.log)
    assert "config_keys_unused" in run.log()
    assert sum(command.endswith("kronos-live worker ") for command in run.commands()) == 2
    assert any("redis-server" in command for command in run.commands())
    assert run.end() == 130
    assert run.commands() == []
    assert "Traceback" not in run.log()


def test_a_redis_that_is_told_is_used_and_lives_on_and_a_site_is_published_where_that_is_wanted(
    tmp_path: Path, redis: Redis, redis_url: str, runs: list[Run]
) -> None:
    site = {"KRONOS_PUBLISH__ENABLED": "true", "KRONOS_PUBLISH__FOLDER": "site"}
    run = Run(tmp_path, "--redis", redis_url, port=free_port(), **site)
    runs.append(run)
    run.wait_for("Kronos Live: http://")
    eventually((tmp_path / "site" / "index.html").exists, STARTS_WITHIN_S, run.log)
    assert not any("redis-server" in command for command in run.commands())
    assert not (tmp_path / ".kronos-live").exists()
    assert run.end(signal.SIGTERM) == 143
    assert run.commands() == []
    assert redis.keys("kronos:forecast:*")


def test_it_goes_on_from_what_a_single_run_has_stored(tmp_path: Path, runs: list[Run]) -> None:
    environment = {"KRONOS_DATA__INTERVAL": "1d", "KRONOS_DATA__ALLOW_SIMULATED": "true"}
    nowhere = f"http://127.0.0.1:{free_port()}"
    once = subprocess.run(
        [sys.executable, "-m", "services.cli", "once", "--json"],
        cwd=tmp_path,
        env={
            **os.environ,
            "HF_ENDPOINT": nowhere,
            "HF_HOME": str(tmp_path / "hub"),
            "KRONOS_MODEL__LOCAL_DIR": str(tmp_path / "no-models"),
            "KRONOS_VENUES__BINANCE_URLS": nowhere,
            "KRONOS_VENUES__OKX_URL": nowhere,
            "KRONOS_VENUES__BYBIT_URL": nowhere,
            "PYTHONPATH": str(PROJECT),
            **environment,
        },
        capture_output=True,
        text=True,
        check=True,
    )
    made = json.loads(once.stdout)["forecast"]
    run = Run(tmp_path, port=free_port(), **environment)
    runs.append(run)
    run.wait_for("Kronos Live: http://")
    assert run.get(f"/api/v1/forecasts/{made['id']}")["forecast"]["created_at"] == made["created_at"]


def test_killed_it_takes_all_with_it_and_the_next_one_goes_on_with_its_folder_at_once(
    tmp_path: Path, runs: list[Run]
) -> None:
    for name in ("first", "next"):
        (tmp_path / name).mkdir()
    daily = {"KRONOS_DATA__INTERVAL": "1d"}  # the next one must not need a forecast of its own
    first = Run(tmp_path / "first", "--folder", "../data", port=free_port(), **daily)
    runs.append(first)
    first.wait_for("Kronos Live: http://")
    made = first.get("/api/v1/forecasts/latest?symbol=BTCUSDT&interval=1d")["forecast"]
    [redis] = re.findall(r"redis started \(pid=(\d+)\)", first.log())
    first.process.kill()
    first.process.wait()
    after = Run(tmp_path / "next", "--folder", "../data", port=free_port(), **daily)
    runs.append(after)
    after.wait_for("Kronos Live: http://")
    assert after.get(f"/api/v1/forecasts/{made['id']}")["forecast"]["created_at"] == made["created_at"]
    eventually(lambda: first.commands() == [], ENDS_WITHIN_S, lambda: "\n".join(first.commands()))
    assert b"redis-server" not in _command(int(redis)), "the first one's"
    assert "Another Kronos Live" not in after.log()


def _command(pid: int) -> bytes:
    """Of a process that runs; empty where it has ended, also where nobody has asked how."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def test_a_taken_port_ends_it_all_with_a_sentence(tmp_path: Path, runs: list[Run]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        run = Run(tmp_path, port=taken.getsockname()[1])
        runs.append(run)
        assert run.process.wait(timeout=STARTS_WITHIN_S * PATIENCE) == 2
    assert "choose another with web.port" in run.log()
    assert run.commands() == []


def test_a_setting_that_cannot_be_is_told_before_anything_starts(tmp_path: Path, runs: list[Run]) -> None:
    run = Run(tmp_path, port=free_port(), KRONOS_PROFILE="testing")
    runs.append(run)
    assert run.process.wait(timeout=STARTS_WITHIN_S) == 2
    assert run.log() == (
        "kronos-live: KRONOS_PROFILE is 'testing', but allowed is one of development, production, or none.\n"
    )
