"""The web service as a process: where it listens, how it ends, and what it does when Redis is away."""

from __future__ import annotations

import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from services.local_redis import redis_server_binary
from tests.conftest import free_port
from tests.processes import eventually, service
from tests.web_server import web_server

NOWHERE = "redis://127.0.0.1:1/0"


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT])
def test_it_ends_soon_after_being_told_even_with_an_open_connection(
    sent: signal.Signals, redis_url: str, tmp_path: Path
) -> None:
    with (
        web_server(redis_url, tmp_path) as (address, running),
        httpx.Client(base_url=address, timeout=30, trust_env=False) as client,
    ):
        assert client.get("/livez").status_code == 200  # and keeps the connection
        told = time.monotonic()
        assert running.end(sent, seconds=30) == 0
        assert time.monotonic() - told < 20  # about one, on a machine that does nothing else
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"{address}/livez", timeout=30, trust_env=False)


def test_a_taken_port_is_named_in_one_sentence(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with service("web", {"KRONOS_WEB__PORT": str(port)}, tmp_path) as running:
            assert running.process.wait(timeout=30) == 2
            assert running.log().startswith(
                f"kronos-live: Port {port} on 127.0.0.1 cannot be used (Address already in use)"
            )
            assert "KRONOS_WEB__PORT" in running.log()
            assert len(running.log().splitlines()) == 1


def test_a_host_that_is_not_here_is_named_in_one_sentence(tmp_path: Path) -> None:
    knobs = {"KRONOS_WEB__HOST": "no.such.host.invalid", "KRONOS_WEB__PUBLIC": "false", "KRONOS_WEB__PORT": "0"}
    with service("web", knobs, tmp_path) as running:
        assert running.process.wait(timeout=30) == 2
        assert "web.host (KRONOS_WEB__HOST) is 'no.such.host.invalid'" in running.log()
        assert len(running.log().splitlines()) == 1


def test_a_port_that_was_left_a_moment_ago_can_be_taken_again(redis_url: str, tmp_path: Path) -> None:
    port = str(free_port())
    for _ in range(2):
        with web_server(redis_url, tmp_path, KRONOS_WEB__PORT=port) as (address, _running):
            assert address == f"http://127.0.0.1:{port}"
            assert httpx.get(f"{address}/livez", timeout=30, trust_env=False).status_code == 200


@pytest.fixture(scope="module")
def without_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with web_server(NOWHERE, tmp_path_factory.mktemp("web")) as (address, _):
        yield address


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/api/v1/forecasts/latest"),
        ("GET", "/api/v1/forecasts/some-id"),
        ("POST", "/api/v1/forecasts"),
        ("GET", "/"),
    ],
)
def test_without_redis_every_answer_says_so_and_when_to_come_back(without_redis: str, method: str, path: str) -> None:
    answer = httpx.request(method, f"{without_redis}{path}", timeout=30, trust_env=False)
    assert answer.status_code == 503
    assert "Redis cannot be used" in answer.json()["detail"]
    assert int(answer.headers["Retry-After"]) > 0


def test_without_redis_a_browser_gets_a_page_that_tries_again_by_itself(without_redis: str) -> None:
    answer = httpx.get(f"{without_redis}/", headers={"Accept": "text/html"}, timeout=30, trust_env=False)
    assert answer.status_code == 503
    assert 'http-equiv="refresh"' in answer.text


def test_without_redis_it_is_alive_but_not_ready(without_redis: str) -> None:
    assert httpx.get(f"{without_redis}/livez", timeout=30, trust_env=False).status_code == 200
    unready = httpx.get(f"{without_redis}/readyz", timeout=30, trust_env=False)
    assert unready.status_code == 503
    assert unready.json()["checks"]["redis"]["ok"] is False


def test_when_redis_comes_back_so_do_the_answers(tmp_path: Path) -> None:
    port = free_port()
    binary = str(redis_server_binary())
    with web_server(f"redis://127.0.0.1:{port}/0", tmp_path) as (address, _):
        assert httpx.get(f"{address}/api/v1/series", timeout=30, trust_env=False).status_code == 503
        redis_server = subprocess.Popen(
            [binary, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(tmp_path)],
            stdout=subprocess.DEVNULL,
        )
        try:
            eventually(
                lambda: httpx.get(f"{address}/api/v1/series", timeout=30, trust_env=False).status_code == 200, 20
            )
        finally:
            redis_server.terminate()
            redis_server.wait(timeout=60)


def test_a_redis_that_accepts_but_never_answers_does_not_hold_requests_for_ever(tmp_path: Path) -> None:
    with socket.socket() as mute:
        mute.bind(("127.0.0.1", 0))
        mute.listen(64)
        with web_server(f"redis://127.0.0.1:{mute.getsockname()[1]}/0", tmp_path) as (address, _):
            assert httpx.get(f"{address}/readyz", timeout=30, trust_env=False).status_code == 503


@pytest.mark.parametrize(
    "sent",
    [
        b"GET / HTTP/1.1\r\nHost: localhost\r\n",
        b"POST /api/v1/forecasts HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{",
    ],
    ids=["in the head", "in the body"],
)
def test_requests_that_never_end_do_not_hold_up_everybody(redis_url: str, tmp_path: Path, sent: bytes) -> None:
    few = {"KRONOS_WEB__THREADS": "2", "KRONOS_WEB__REQUEST_SECONDS": "2"}
    with ExitStack() as held, web_server(redis_url, tmp_path, **few) as (address, running):
        host, port = address.removeprefix("http://").split(":")
        slow = [held.enter_context(socket.create_connection((host, int(port)), timeout=60)) for _ in range(4)]
        for one in slow:
            one.sendall(sent)
        assert httpx.get(f"{address}/livez", timeout=60, trust_env=False).status_code == 200
        assert all(len(one.recv(4096)) < 4096 for one in slow), "each was hung up on, with or without a word"
        assert "Traceback" not in running.log()


def test_a_stream_of_events_may_last_longer_than_a_request(redis_url: str, tmp_path: Path) -> None:
    with (
        web_server(redis_url, tmp_path, KRONOS_WEB__REQUEST_SECONDS="1") as (address, _),
        httpx.stream("GET", f"{address}/api/v1/events", timeout=60, trust_env=False) as stream,
    ):
        begun = time.monotonic()
        assert any(time.monotonic() - begun > 3 for _ in stream.iter_bytes()), "a word of life comes every 15 s"


def test_a_write_token_is_asked_for_where_one_is_configured(redis_url: str, tmp_path: Path) -> None:
    with web_server(redis_url, tmp_path, KRONOS_WEB__WRITE_TOKEN="s3cret") as (address, running):  # noqa: S106
        refused = httpx.post(f"{address}/api/v1/forecasts", timeout=30, trust_env=False)
        assert refused.status_code == 401
        assert refused.headers["WWW-Authenticate"].startswith("Bearer")
        headers = {"Authorization": "Bearer s3cret"}
        allowed = httpx.post(f"{address}/api/v1/forecasts", headers=headers, timeout=30, trust_env=False)
        assert allowed.status_code == 422  # past the token: no series is ingested yet
        assert httpx.get(f"{address}/api/v1/series", timeout=30, trust_env=False).status_code == 200
        assert "s3cret" not in running.log()


@pytest.mark.parametrize(
    ("chosen", "words"),
    [
        ({"KRONOS_WEB__PUBLIC": "true"}, "web.public (KRONOS_WEB__PUBLIC) is true, but"),
        ({"KRONOS_WEB__HOST": "0.0.0.0"}, "web.host (KRONOS_WEB__HOST) is 0.0.0.0, beyond"),  # noqa: S104
    ],
)
def test_what_others_reach_is_not_started_without_a_token(
    redis_url: str, tmp_path: Path, chosen: dict[str, str], words: str
) -> None:
    with service("web", {"KRONOS_REDIS__URL": redis_url, "KRONOS_WEB__PORT": "0", **chosen}, tmp_path) as running:
        assert running.process.wait(timeout=30) == 2
        [line] = running.log().splitlines()
    assert words in line
    assert "KRONOS_WEB__WRITE_TOKEN" in line
    with web_server(redis_url, tmp_path, **chosen, KRONOS_WEB__WRITE_TOKEN="s3cret") as (address, _):  # noqa: S106
        here = address.replace("0.0.0.0", "127.0.0.1")  # noqa: S104
        assert httpx.post(f"{here}/api/v1/forecasts", timeout=30, trust_env=False).status_code == 401
