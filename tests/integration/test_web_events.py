"""Server-sent events of the running web service: what they tell, and what many of them cost."""

from __future__ import annotations

import re
import socket
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path

import httpx
import pytest
from redis import Redis
from rq.job import Job
from rq.serializers import JSONSerializer

from services.local_redis import redis_server_binary
from services.web import streams
from services.web.situation import Stores, read_situation
from shared.forecasts import scheduled_forecast_id
from tests.builders import forecast_request
from tests.conftest import free_port
from tests.event_stream import EventStream
from tests.processes import Service, eventually
from tests.web_server import forecast_stored, ingested, job_as_running, unheard_of, web_server, worker_alive

EVENTS = "/api/v1/events"


def sockets_of(running: Service) -> int:
    """How many sockets gunicorn's worker process holds."""
    [worker] = Path(f"/proc/{running.process.pid}/task/{running.process.pid}/children").read_text().split()
    count = 0
    for one in Path(f"/proc/{worker}/fd").iterdir():
        with suppress(FileNotFoundError):  # it was closed while we looked
            count += str(one.readlink()).startswith("socket:")
    return count


def test_a_stream_begins_with_what_a_browser_needs_and_the_first_change_at_once(
    web_address: str, redis: Redis, stores: Stores
) -> None:
    forecast = forecast_stored(stores, ingested(stores))
    asked = time.monotonic()
    with EventStream(web_address, f"{EVENTS}?symbol=BTCUSDT&interval=1h") as stream:
        assert stream.head.startswith("HTTP/1.1 200")
        assert "Content-Type: text/event-stream" in stream.head
        assert "Cache-Control: no-store" in stream.head
        assert "Content-Security-Policy" in stream.head
        assert "Content-Length" not in stream.head
        assert stream.block() == "retry: 3000"
        first = stream.event()
        assert time.monotonic() - asked < 20
    assert first.name == "change"
    assert re.fullmatch(r"[0-9a-f]{16}", first.data["etag"])
    assert first.data == {**first.data, "latest": forecast.id, "state": "live", "workers": 0, "queued": 0}


def test_each_thing_that_the_page_shows_makes_one_change(
    web: httpx.Client, web_address: str, redis: Redis, stores: Stores
) -> None:
    window = ingested(stores)
    with EventStream(web_address, EVENTS) as stream:
        etags = [stream.event().data["etag"]]

        def told_of(what: str) -> None:
            etag = stream.event().data["etag"]
            assert etag not in etags, what
            etags.append(etag)

        forecast_stored(stores, window)
        told_of("the schedule's forecast")
        forecast_stored(stores, window, forecast_id="adhoc-1")
        told_of("a forecast that a person asked for")
        worker = worker_alive(redis)
        told_of("a worker")
        unheard_of(redis, worker.name, seconds=61)
        told_of("a worker that fell silent")
        ingested(stores, state="stale", problem="No venue answers.")
        told_of("the series' state")
        web.post("/api/v1/forecasts", json={"seed": 1}).raise_for_status()
        told_of("the queue's length")
        with pytest.raises(TimeoutError):
            stream.event(2.5)  # nothing changes, so nothing is told


def test_progress_of_the_schedules_forecast_is_a_change(web_address: str, redis: Redis, stores: Stores) -> None:
    window = ingested(stores)
    forecast_id = scheduled_forecast_id("BTCUSDT", window.interval, window.last_open_time_ms, "live")
    with EventStream(web_address, EVENTS) as stream:
        stream.event()
        stores.queue.enqueue(forecast_id, forecast_request(window.content_hash()[:16]))
        assert stream.event().data["queued"] == 1
        for done in (3, 9):
            job_as_running(redis, forecast_id, done, 24)
            stream.event()
    situation = read_situation(stores, "BTCUSDT", window.interval, window.last_open_time_ms)
    assert situation.coming is not None
    assert situation.coming.progress is not None
    assert situation.coming.progress.done == 9


def test_a_forecast_is_followed_from_the_queue_to_its_end(
    web: httpx.Client, web_address: str, redis: Redis, stores: Stores
) -> None:
    window = ingested(stores)
    forecast_id = web.post("/api/v1/forecasts").json()["id"]
    with EventStream(web_address, f"/api/v1/forecasts/{forecast_id}/events") as stream:
        queued = stream.event()
        assert (queued.name, queued.data["state"], queued.data["position"]) == ("job", "queued", 0)
        job_as_running(redis, forecast_id, 7, 24)
        running = stream.event()
        assert (running.data["state"], running.data["progress"]["done"]) == ("running", 7)
        worker = worker_alive(redis)
        assert stream.event().data["workers"] == 1
        unheard_of(redis, worker.name, seconds=61)
        assert stream.event().data["workers"] == 0
        forecast_stored(stores, window, forecast_id=forecast_id)
        finished = stream.event()
        assert (finished.name, finished.data["id"], finished.data["state"]) == ("job", forecast_id, "finished")
        assert stream.event().name == "end"
        assert stream.is_over()


def test_a_failed_forecast_ends_its_stream_with_the_reason(
    web: httpx.Client, web_address: str, redis: Redis, stores: Stores
) -> None:
    ingested(stores)
    forecast_id = web.post("/api/v1/forecasts").json()["id"]
    job = Job.fetch(forecast_id, connection=redis, serializer=JSONSerializer)
    job.meta["error"] = "model.safetensors has the wrong hash."
    job.save_meta()
    job.set_status("failed")
    with EventStream(web_address, f"/api/v1/forecasts/{forecast_id}/events") as stream:
        assert stream.event().data["error"] == "model.safetensors has the wrong hash."
        assert stream.event().data == {"id": forecast_id, "state": "failed"}
        assert stream.is_over()


def test_a_forecast_that_is_forgotten_while_it_is_followed_ends_its_stream(
    web: httpx.Client, web_address: str, redis: Redis, stores: Stores
) -> None:
    ingested(stores)
    forecast_id = web.post("/api/v1/forecasts").json()["id"]
    with EventStream(web_address, f"/api/v1/forecasts/{forecast_id}/events") as stream:
        stream.event()
        Job.fetch(forecast_id, connection=redis, serializer=JSONSerializer).delete()
        ended = stream.event()
        assert ended.name == "end"
        assert forecast_id in ended.data["reason"]


@pytest.mark.parametrize(
    ("path", "status", "words"),
    [
        ("/api/v1/forecasts/unknown/events", 404, "no forecast 'unknown'"),
        (f"{EVENTS}?symbol=DOGEUSDT", 404, "DOGEUSDT 1h is not ingested here"),
        (f"{EVENTS}?interval=7m", 422, "7m"),
        (f"{EVENTS}?colour=red", 422, "colour"),
    ],
)
def test_what_cannot_be_followed_is_a_problem_and_no_stream(
    web: httpx.Client, path: str, status: int, words: str
) -> None:
    refused = web.get(path)
    assert refused.status_code == status
    assert refused.headers["Content-Type"] == "application/problem+json"
    assert words in refused.json()["detail"]


def test_asking_for_the_head_alone_opens_no_stream(web: httpx.Client) -> None:
    assert web.head(EVENTS).headers["Content-Type"].startswith("text/event-stream")
    assert web.get("/livez").status_code == 200


def test_five_hundred_open_streams_leave_the_threads_to_those_who_ask(
    redis_url: str, redis: Redis, stores: Stores, tmp_path: Path
) -> None:
    forecast_stored(stores, ingested(stores))
    with web_server(redis_url, tmp_path, KRONOS_WEB__THREADS="2") as (address, running), ExitStack() as opened:
        # So that gunicorn has begun its process.
        assert httpx.get(f"{address}/livez", timeout=30, trust_env=False).status_code == 200
        before = sockets_of(running)
        with ThreadPoolExecutor(20) as pool:
            open_ones = list(pool.map(lambda _: EventStream(address, EVENTS), range(500)))
        for stream in open_ones:
            opened.enter_context(stream)
            assert stream.event().name == "change"
        calls = int(redis.info("stats")["total_commands_processed"])
        time.sleep(3)
        read = int(redis.info("stats")["total_commands_processed"]) - calls
        assert read < 100, "Redis is read once a second for all of them, not by each"
        asked = time.monotonic()
        assert httpx.get(f"{address}/api/v1/forecasts/latest", timeout=30, trust_env=False).status_code == 200
        assert time.monotonic() - asked < 20  # not until a stream ends
        worker_alive(redis)
        changed = time.monotonic()
        assert all(stream.event().data["workers"] == 1 for stream in open_ones)
        assert time.monotonic() - changed < 30
        for stream in open_ones[:400]:
            stream.sock.close()
        eventually(lambda: sockets_of(running) <= before + 110, 30, lambda: f"{sockets_of(running)} sockets are held")
        told = time.monotonic()
        assert running.end() == 0
        assert time.monotonic() - told < 20  # about one, on a machine that does nothing else
        assert open_ones[-1].is_over()


def test_beyond_the_most_streams_the_next_hears_so_in_one_sentence(
    redis_url: str, stores: Stores, tmp_path: Path
) -> None:
    ingested(stores)
    with web_server(redis_url, tmp_path, KRONOS_WEB__MAX_STREAMS="2") as (address, _):
        with EventStream(address, EVENTS) as one, EventStream(address, EVENTS) as another:
            assert (one.event().name, another.event().name) == ("change", "change")
            refused = httpx.get(f"{address}{EVENTS}", timeout=30, trust_env=False)
            assert refused.status_code == 503
            assert "web.max_streams" in refused.json()["detail"]
            assert int(refused.headers["Retry-After"]) > 0
        eventually(lambda: EventStream(address, EVENTS).head.startswith("HTTP/1.1 200"), 30)


def test_a_lost_redis_is_told_and_so_is_its_return(tmp_path: Path) -> None:
    port = free_port()
    command = [str(redis_server_binary()), "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", tmp_path]

    def started() -> subprocess.Popen[bytes]:
        server = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        eventually(lambda: socket.socket().connect_ex(("127.0.0.1", port)) == 0, 30)
        return server

    server = started()
    try:
        with (
            web_server(f"redis://127.0.0.1:{port}/0", tmp_path) as (address, _),
            EventStream(address, EVENTS) as stream,
        ):
            first = stream.event().data
            server.terminate()
            server.wait(60)
            assert "Redis cannot be used" in stream.event().data["problem"]
            server = started()
            assert stream.event().data == first
    finally:
        server.terminate()
        server.wait(60)


class _Pair:
    """Both ends of a connection, as gunicorn would hand one over."""

    def __init__(self) -> None:
        self.ours, self.theirs = socket.socketpair()
        self.theirs.settimeout(5)

    def heard(self, size: int = 65536) -> bytes:
        return self.theirs.recv(size)


def test_a_quiet_stream_hears_a_heartbeat(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "HEARTBEAT_S", 0.2)
    monkeypatch.setattr(streams, "LOOK_EVERY_S", 0.05)
    room, pair = (
        streams.Streams(lambda topics: {topic: streams.News("event: x\ndata: 1\n\n") for topic in topics}, 5),
        _Pair(),
    )
    room.take(pair.ours, b"HEAD\r\n\r\n", "topic")
    heard = b""
    while heard.count(b": still here\n\n") < 2:
        heard += pair.heard()
    assert heard.count(b"event: x") == 1


def test_whoever_does_not_take_in_what_is_sent_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "LOOK_EVERY_S", 0.01)
    count = iter(range(10**9))
    room = streams.Streams(
        lambda topics: {topic: streams.News(f"data: {next(count)}{'x' * 20_000}\n\n") for topic in topics}, 5
    )
    pair = _Pair()
    room.take(pair.ours, b"", "topic")
    eventually(lambda: len(room) == 0, 30)


def test_a_look_that_goes_wrong_ends_no_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "LOOK_EVERY_S", 0.05)
    turns = iter(range(10**9))

    def look(topics: object) -> dict[streams.Topic, streams.News]:
        if next(turns) < 3:
            raise RuntimeError("a defect")
        return {"topic": streams.News("event: well\ndata: 1\n\n")}

    room, pair = streams.Streams(look, 5), _Pair()
    room.take(pair.ours, b"", "topic")
    heard = b""
    while b"event: well" not in heard:
        heard += pair.heard()
