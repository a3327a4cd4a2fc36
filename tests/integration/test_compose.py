"""`docker compose up` for real: images are built, a forecast goes through, into a site and to people, three workers share what is
asked for, one is killed, Redis is started anew; and what the containers are held to holds.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import yaml

from tests.alert_receiver import SECRET
from tests.conftest import PROJECT, free_port, skip_or_fail

# The first build fetches torch; and a browser drops all that it is fetching whenever Docker makes or removes a network.
pytestmark = [pytest.mark.timeout(1800), pytest.mark.alone]

PROJECT_NAME = f"kronos-live-test-{os.getpid()}"
OURS = ("ingest", "inference", "web", "publish", "alerts")  # services with images of ours
# One of both holds of any forecast. Nobody listens at the channel, which an address with a secret in it names.
TELLING = {
    "KRONOS_ALERTS__RULES": "[{when: upside_above, level: 0.5, cool_down: 0}, {when: upside_below, level: 0.6, cool_down: 0}]",
    "KRONOS_ALERTS__CHANNELS": f"json://me:{SECRET}@127.0.0.1:9/{SECRET}",
}


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
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)


def containers(service: str, environment: dict[str, str]) -> list[str]:
    return compose("ps", "-q", service, environment=environment).split()


def inspected(container: str, what: str) -> str:
    shown = subprocess.run(
        ["docker", "inspect", "--format", what, container], capture_output=True, text=True, check=True
    )
    return shown.stdout.strip()


def inside(container: str, script: str) -> subprocess.CompletedProcess[str]:
    """What a shell in a container does."""
    return subprocess.run(
        ["docker", "exec", container, "sh", "-c", script], capture_output=True, text=True, check=False, timeout=120
    )


def forecast_made(url: str, seed: int) -> dict[str, Any]:
    """A forecast that is asked for, and waited for."""
    asked = eventually(lambda: call(f"{url}/api/v1/forecasts", {"num_samples": 20, "seed": seed}), 60)["id"]
    return dict(eventually(lambda: _finished(call(f"{url}/api/v1/forecasts/{asked}")), 180))


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
    environment = {
        "COMPOSE_PROFILES": "publish,alerts",
        "KRONOS_COMPOSE_WEB": f"127.0.0.1:{port}",
        "KRONOS_SAMPLING__NUM_SAMPLES": "12",
        "KRONOS_PUBLISH__GIT__ENABLED": "true",
        **TELLING,
    }
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


def test_the_newest_forecast_is_written_into_the_sites_volume_and_its_history(
    stack: tuple[str, dict[str, str]],
) -> None:
    url, environment = stack
    [publishing] = containers("publish", environment)

    def follows(command: str, said: str) -> bool:
        """Whether it says so of the forecast that is the newest by then: a candle may close meanwhile."""
        newest = call(f"{url}/api/v1/forecasts/latest")["forecast"]["id"]
        return said.format(newest) in inside(publishing, command).stdout

    eventually(lambda: follows("cat /publish/site/index.html", "<dd>{}</dd>"), 180)
    [volume] = [
        mount for mount in json.loads(inspected(publishing, "{{json .Mounts}}")) if mount["Destination"] == "/publish"
    ]
    assert (volume["Type"], volume["Name"]) == ("volume", f"{PROJECT_NAME}_site")
    eventually(lambda: follows("git --git-dir=/publish/site-git/.git log -1 --format=%s gh-pages", "{}: upside "), 60)


def test_people_are_told_by_the_one_container_that_knows_the_channels(stack: tuple[str, dict[str, str]]) -> None:
    _, environment = stack
    eventually(lambda: "alert_not_delivered" in compose("logs", "--no-color", "alerts", environment=environment), 180)
    assert SECRET not in compose("logs", "--no-color", environment=environment)
    for service in OURS:
        told = SECRET in inspected(containers(service, environment)[0], "{{json .Config.Env}}")
        assert told == (service == "alerts"), service


def test_each_service_tells_its_metrics_where_prometheus_asks(stack: tuple[str, dict[str, str]]) -> None:
    _, environment = stack
    jobs = yaml.safe_load((PROJECT / "monitoring" / "prometheus.yml").read_text())["scrape_configs"]
    asked = [target for job in jobs for one in job.get("static_configs", []) for target in one["targets"]]
    asked += [f"{one['names'][0]}:{one['port']}" for job in jobs for one in job.get("dns_sd_configs", [])]
    assert {address.partition(":")[0] for address in asked} == set(OURS)
    [neighbour] = containers("web", environment)
    for address in asked:
        ask = f"import urllib.request as u; print(u.urlopen('http://{address}/metrics', timeout=30).read().decode())"
        told = inside(neighbour, f'python3 -c "{ask}"')
        assert "# TYPE kronos_" in told.stdout, (address, told.stderr[-500:])
        assert SECRET not in told.stdout


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


@pytest.mark.parametrize("service", ["ingest", "web"])
def test_an_image_without_a_model_is_small_above_its_base(stack: tuple[str, dict[str, str]], service: str) -> None:
    """docs/scaling.md names the sizes."""
    image = inspected(containers(service, stack[1])[0], "{{.Image}}")
    added = int(inspected(image, "{{.Size}}")) - int(inspected("python:3.12-slim", "{{.Size}}"))
    assert 20e6 < added <= 300e6


@pytest.mark.parametrize("service", ["redis", *OURS])
def test_each_service_says_that_it_is_well(stack: tuple[str, dict[str, str]], service: str) -> None:
    found = containers(service, stack[1])
    assert len(found) == (3 if service == "inference" else 1)
    for container in found:
        eventually(lambda one=container: inspected(one, "{{.State.Health.Status}}") == "healthy", 240)


@pytest.mark.parametrize("service", ["redis", *OURS])
def test_no_container_has_a_privilege_or_can_write_to_its_image(
    stack: tuple[str, dict[str, str]], service: str
) -> None:
    container = containers(service, stack[1])[0]
    status = inside(container, "cat /proc/self/status; id -u").stdout
    assert "NoNewPrivs:\t1" in status
    assert "CapEff:\t0000000000000000" in status
    assert status.splitlines()[-1] != "0", "it does not run as root"
    for place in ("/", "/usr/bin", "/app", "/secrets"):
        refused = inside(container, f"touch {place}/written")
        assert (place, "ead-only" in refused.stderr or "No such file" in refused.stderr) == (place, True)
    for limit in ("PidsLimit", "Memory"):
        assert int(inspected(container, f"{{{{.HostConfig.{limit}}}}}")) > 0
    assert inspected(container, "{{.HostConfig.LogConfig.Config}}") == "map[max-file:5 max-size:10m]"


def test_redis_wants_its_password_which_nothing_tells_and_nobody_else_reaches_it(
    stack: tuple[str, dict[str, str]],
) -> None:
    _, environment = stack
    [redis] = containers("redis", environment)
    assert "NOAUTH" in inside(redis, "redis-cli get kronos:series").stdout
    assert inspected(redis, "{{.HostConfig.PortBindings}}") == "map[]"
    password = inside(redis, "cat /secrets/redis-password").stdout
    assert len(password) >= 32
    for told in (compose("logs", "--no-color", environment=environment), inspected(redis, "{{json .}}")):
        assert password not in told
    assert password not in inside(redis, "cat /proc/*/cmdline").stdout
    diagnosis = inside(containers("ingest", environment)[0], "kronos-live doctor --json").stdout
    state = {one["check"]: one["state"] for one in json.loads(diagnosis)}
    assert {state[f"redis{more}"] for more in ("", " writes", " memory", " persistence", " password")} == {"ok"}
    assert {state[one] for one in ("ingest", "workers", "queue", "access", "clock of redis")} == {"ok"}


def test_only_the_page_is_published_and_on_loopback(stack: tuple[str, dict[str, str]]) -> None:
    _, environment = stack
    published = {
        service: inspected(
            container, "{{range $port, $at := .NetworkSettings.Ports}}{{range $at}}{{.HostIp}} {{end}}{{end}}"
        )
        for service in ("redis", *OURS)
        for container in containers(service, environment)
    }
    assert published == dict.fromkeys(("redis", *OURS), "") | {"web": "127.0.0.1"}


def test_a_killed_worker_and_a_redis_that_is_started_anew_lose_nothing(stack: tuple[str, dict[str, str]]) -> None:
    url, environment = stack
    before = forecast_made(url, seed=101)["id"]
    killed = containers("inference", environment)[0]
    inside(killed, "kill -9 $(cat /proc/1/task/1/children)")
    eventually(lambda: int(inspected(killed, "{{.RestartCount}}")) >= 1, 60)
    assert forecast_made(url, seed=102)["id"] != before
    password = inside(containers("redis", environment)[0], "cat /secrets/redis-password").stdout
    compose("restart", "redis", environment=environment)
    assert eventually(lambda: call(f"{url}/api/v1/forecasts/{before}"), 60)["state"] == "finished"
    assert forecast_made(url, seed=103)["id"] != before
    assert inside(containers("redis", environment)[0], "cat /secrets/redis-password").stdout == password


def _finished(answer: dict[str, Any]) -> dict[str, Any] | None:
    assert answer["state"] != "failed", answer["error"]
    return answer["forecast"]
