"""`docker compose up` for real: images are built, a forecast goes through, and three workers share the queue."""

from __future__ import annotations

import json
import os
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.conftest import PROJECT, free_port, skip_or_fail

pytestmark = pytest.mark.timeout(1800)  # the first build fetches torch

PROJECT_NAME = f"kronos-live-test-{os.getpid()}"


def compose(*arguments: str, environment: dict[str, str]) -> str:
    done = subprocess.run(
        ["docker", "compose", "-p", PROJECT_NAME, *arguments],
        cwd=PROJECT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"docker compose {' '.join(arguments)}:\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout


def call(url: str, body: dict[str, Any] | None = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data=data, headers={"Content-Type": "application/json"} if data else {})
    with urllib.request.urlopen(request, timeout=10) as answer:
        return json.load(answer)


def eventually(read: Callable[[], Any], seconds: float) -> Any:
    """What `read` returns once it is neither false nor an error of a service that is still starting."""
    deadline, problem = time.monotonic() + seconds, "nothing yet"
    while time.monotonic() < deadline:
        try:
            if found := read():
                return found
        except OSError as error:
            problem = str(error)
        time.sleep(0.5)
    pytest.fail(f"not within {seconds} s: {problem}")


@pytest.fixture(scope="module")
def stack() -> Iterator[tuple[str, dict[str, str]]]:
    """A running stack of our own, its address and its environment; taken down with its volumes afterwards."""
    try:
        subprocess.run(["docker", "compose", "version"], capture_output=True, check=True)
        subprocess.run(["docker", "info"], capture_output=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        skip_or_fail("compose", "no Docker engine with Compose answers here")
    port = free_port()
    environment = {"KRONOS_PUBLISH": f"127.0.0.1:{port}", "KRONOS_SAMPLING__NUM_SAMPLES": "12"}
    try:
        compose("build", environment=environment)
        compose("up", "-d", "--scale", "inference=3", environment=environment)
        yield f"http://127.0.0.1:{port}", environment
    finally:
        compose("down", "--volumes", "--remove-orphans", "--rmi", "local", "--timeout", "20", environment=environment)


def test_a_scheduled_forecast_appears_labelled_for_what_it_is(stack: tuple[str, dict[str, str]]) -> None:
    url, _ = stack
    latest = eventually(lambda: call(f"{url}/api/v1/forecasts/latest"), 120)
    assert latest["forecast"]["request"]["num_samples"] == 12, "the knob reached the containers"
    origin = latest["forecast"]["provenance"]["origin"]
    assert origin in ("live", "simulated")
    assert ("SIMULATED DATA" in latest["labels"]) == (origin == "simulated")


def test_three_workers_share_what_people_ask_for(stack: tuple[str, dict[str, str]]) -> None:
    url, environment = stack
    asked = [call(f"{url}/api/v1/forecasts", {"num_samples": 20, "seed": seed})["id"] for seed in range(9)]
    for forecast_id in asked:
        done = eventually(lambda one=forecast_id: _finished(call(f"{url}/api/v1/forecasts/{one}")), 180)
        assert done["provenance"]["timings_s"]["total"] > 0
        assert done["provenance"]["kernels"].startswith("native"), "the image brings its kernels along"
    logs = compose("logs", "--no-color", "inference", environment=environment)
    busy = {line.split("|")[0].strip() for line in logs.splitlines() if "forecast_stored" in line}
    assert len(busy) >= 2, f"all forecasts were made by {busy}"


def test_the_web_image_has_no_torch(stack: tuple[str, dict[str, str]]) -> None:
    _, environment = stack
    probe = "import importlib.util as u; print(u.find_spec('torch'))"
    assert compose("exec", "-T", "web", "python3", "-c", probe, environment=environment).strip() == "None"


def _finished(answer: dict[str, Any]) -> dict[str, Any] | None:
    assert answer["state"] != "failed", answer["error"]
    return answer["forecast"]
