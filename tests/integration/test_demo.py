"""`make demo`'s program: everything starts, says where it is, and leaves nothing behind."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from tests.conftest import PROJECT, free_port
from tests.processes import PATIENCE, eventually, processes_of

STARTS_WITHIN_S = 30 * PATIENCE


class Demo:
    """A demo in a process group of its own, as under make; it reaches neither a venue nor the hub."""

    def __init__(self, folder: Path, port: int) -> None:
        self.port = port
        self._folder = folder
        self.mark = f"DEMO_TEST_MARK={uuid4().hex}"
        nowhere = f"http://127.0.0.1:{free_port()}"
        name, value = self.mark.split("=")
        environment = {
            **os.environ,
            name: value,
            "HF_ENDPOINT": nowhere,
            "HF_HOME": str(folder / "hub"),
            "KRONOS_MODEL__LOCAL_DIR": str(folder / "no-models"),
            "KRONOS_VENUES__BINANCE_URLS": nowhere,
            "KRONOS_VENUES__OKX_URL": nowhere,
            "KRONOS_VENUES__BYBIT_URL": nowhere,
        }
        self.process = subprocess.Popen(
            [sys.executable, "-m", "services.cli", "demo", "--port", str(port), "--folder", str(folder)],
            cwd=PROJECT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self.lines: list[str] = []

    def wait_for(self, words: str) -> str:
        """Read the output up to a line that holds `words`."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line)
            if words in line:
                return line
        pytest.fail(f"the demo ended without saying {words!r}:\n{''.join(self.lines[-40:])}")

    def get(self, path: str) -> Any:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=30) as answer:
            return json.load(answer)

    def ask(self, wishes: dict[str, int]) -> str:
        """Ask for a forecast and return its id."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/api/v1/forecasts",
            data=json.dumps(wishes).encode(),
            headers={"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            return str(json.load(answer)["id"])

    def wait_until_running(self, forecast_id: str) -> None:
        eventually(lambda: self.get(f"/api/v1/forecasts/{forecast_id}")["state"] == "running", 20)

    def end(self, sent: signal.Signals) -> None:
        """What a terminal does on Ctrl+C: the signal goes to the whole process group."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, sent)
        output, _ = self.process.communicate(timeout=60)
        self.lines.append(output)

    def survivors(self) -> list[str]:
        """Processes of this demo that still live."""
        return processes_of(self.mark, self._folder)


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[Demo]:
    running = Demo(tmp_path / "demo", free_port())
    yield running
    if running.process.poll() is None:
        running.end(signal.SIGTERM)


def test_the_first_forecast_is_there_in_time_and_labelled_and_nothing_stays_behind(demo: Demo) -> None:
    started = time.monotonic()
    demo.wait_for(f"Kronos Live: http://127.0.0.1:{demo.port}")
    assert time.monotonic() - started < STARTS_WITHIN_S
    latest = demo.get("/api/v1/forecasts/latest")
    assert latest["forecast"]["provenance"]["origin"] == "simulated"
    assert latest["forecast"]["provenance"]["model"]["source"] == "bundled"
    assert latest["forecast"]["provenance"]["model_stands_in_for"] == "Kronos-small"
    assert {"SIMULATED DATA", "BUNDLED MODEL"} <= set(latest["labels"])
    demo.end(signal.SIGINT)
    assert demo.survivors() == []


def test_history_survives_a_restart(tmp_path: Path) -> None:
    seen = []
    for _ in range(2):
        demo = Demo(tmp_path / "demo", free_port())
        seen.append(demo.wait_for("first forecast:").split("first forecast: ")[1].strip(" )\n"))
        assert demo.get(f"/api/v1/forecasts/{seen[0]}")["state"] == "finished"
        demo.end(signal.SIGTERM)
        assert demo.survivors() == []


def test_ctrl_c_in_the_first_moment_leaves_nothing_behind(demo: Demo) -> None:
    demo.wait_for("started")
    demo.end(signal.SIGINT)
    assert demo.survivors() == []


def test_ctrl_c_while_a_forecast_is_made_lets_it_end_and_be_stored(demo: Demo, tmp_path: Path) -> None:
    demo.wait_for("Kronos Live:")
    forecast_id = demo.ask({"num_samples": 500, "horizon": 200})
    demo.wait_until_running(forecast_id)
    demo.end(signal.SIGINT)
    assert demo.survivors() == []
    assert "Traceback" not in "".join(demo.lines)
    again = Demo(tmp_path / "demo", free_port())
    again.wait_for("Kronos Live:")
    assert again.get(f"/api/v1/forecasts/{forecast_id}")["state"] in ("finished", "queued", "running")
    again.end(signal.SIGTERM)


def test_two_demos_do_not_share_a_folder(demo: Demo, tmp_path: Path) -> None:
    demo.wait_for("Kronos Live:")
    second = Demo(tmp_path / "demo", free_port())
    second.wait_for("Another Kronos Live uses")
    assert second.process.wait(timeout=60) == 2
    assert demo.get("/livez")


def test_a_closed_terminal_ends_it_all(demo: Demo) -> None:
    demo.wait_for("Kronos Live:")
    demo.end(signal.SIGHUP)
    assert demo.survivors() == []


@pytest.mark.parametrize("said", ["started", "Kronos Live:"])
def test_killed_with_its_whole_group_it_leaves_nothing_behind(demo: Demo, said: str) -> None:
    demo.wait_for(said)
    os.killpg(demo.process.pid, signal.SIGKILL)
    demo.process.wait(timeout=60)
    eventually(lambda: demo.survivors() == [], 60, lambda: "\n".join(demo.survivors()))


def test_a_taken_port_is_named(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        demo = Demo(tmp_path / "demo", port)
        demo.wait_for(f"Port {port} on 127.0.0.1 cannot be used")
        assert demo.process.wait(timeout=60) == 2
    assert "DEMO_PORT" in "".join(demo.lines)
    assert "Traceback" not in "".join(demo.lines)
