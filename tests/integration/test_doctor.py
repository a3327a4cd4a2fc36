"""`kronos-live doctor` beside a real Redis and real faults: it finds each, says what to do, and nothing else is wrong."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from redis import Redis
from rq import Queue, SimpleWorker
from rq.job import Job
from rq.serializers import JSONSerializer
from rq.utils import utcformat

from services.cli.diagnosis import examine
from services.cli.diagnosis.finding import Finding
from services.web.situation import Stores
from shared.alert_store import AlertStore
from shared.settings import load_settings
from tests.builders import START_MS, settings
from tests.conftest import free_port, redis_server
from tests.integration.conftest import Run
from tests.integration.test_service_metrics import ingest, told
from tests.tiny_models import write_tiny_models
from tests.unit.inference.hub_server import running_hub
from tests.venue_server import VenueServer
from tests.web_server import forecast_stored, ingest_alive, ingested, stores_on, unheard_of, worker_alive

HOUR_S = 3600
PASSWORD = "s3cret"  # noqa: S105 - of a Redis that lives as long as its test
Look = Callable[..., dict[str, Finding]]


@pytest.fixture
def look(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Look:
    """What the doctor finds with these knobs, by what was looked at."""

    def find(at_s: float | None = None, **knobs: str) -> dict[str, Finding]:
        with monkeypatch.context() as patch:
            for name, value in {**environment, "KRONOS_METRICS__INGEST_PORT": str(free_port()), **knobs}.items():
                patch.setenv(name, value)
            found = list(examine(load_settings(), round(1000 * (at_s or time.time()))))
        for one in found:
            assert (one.todo is None) == (one.state == "ok"), one
            assert re.fullmatch(r"[^\n]+\.", one.what), one
        return {one.check: one for one in found}

    return find


@pytest.fixture
def healthy(redis: Redis, stores: Stores) -> Iterator[SimpleWorker]:
    """A series with a forecast, an ingest and a worker, of which the worker's registration is given."""
    forecast_stored(stores, ingested(stores))
    ingest_alive(redis)
    yield worker_alive(redis)
    redis.config_set("maxmemory", 0)
    redis.config_set("maxmemory-policy", "noeviction")


def not_well(found: dict[str, Finding]) -> dict[str, str]:
    """What is not well, apart from what is so of every Redis and model of these tests."""
    usual = {"redis persistence", "checkpoint"}
    return {one.check: one.state for one in found.values() if one.state != "ok" and one.check not in usual}


@pytest.mark.usefixtures("healthy")
def test_where_all_is_well_nothing_is_wrong_and_the_command_ends_with_0(run: Run) -> None:
    shown = run("doctor")
    assert shown.returncode == 0, shown.stdout + shown.stderr
    lines = shown.stdout.splitlines()
    assert {line.split()[0] for line in lines} == {"ok", "warning"}
    for words in ("redis: Redis ", "workers: 1 alive", "klines of BTCUSDT 1h: The newest candle is", "from binance."):
        assert sum(words in line and line.startswith("ok") for line in lines) == 1, (words, lines)
    assert "--appendonly yes" in shown.stdout
    told = json.loads(run("doctor", "--json").stdout)
    assert [f"{one['state']:<7} {one['check']}:" for one in told] == [line.split(":")[0] + ":" for line in lines]
    assert all(set(one) == {"check", "state", "what", "todo"} for one in told)


@pytest.mark.usefixtures("healthy")
def test_of_many_series_the_doctor_tells_how_many_more_are_alike(run: Run, stores: Stores) -> None:
    names = [f"C{place:02}USDT:1h" for place in range(23)]
    for name in names[:22]:
        ingested(stores, symbol=name[:-3], candles=64)
    shown = run("doctor", KRONOS_DATA__SERIES=",".join(names))
    assert shown.returncode == 1, shown.stderr
    lines = shown.stdout.splitlines()
    assert sum("klines of" in line and line.startswith("ok") for line in lines) == 21
    assert "ok      klines of 3 more: `kronos-live doctor --all`." in lines
    assert "wrong   forecast of 2 more: `kronos-live doctor --all`." in lines
    assert any("klines of C22USDT 1h: They have never been fetched." in line for line in lines)
    whole = run("doctor", "--all", KRONOS_DATA__SERIES=",".join(names)).stdout.splitlines()
    assert (sum("klines of" in line for line in whole), sum(" more: " in line for line in whole)) == (24, 0)
    assert len(json.loads(run("doctor", "--json", KRONOS_DATA__SERIES=",".join(names)).stdout)) == len(whole)


def test_a_redis_with_an_append_only_file_and_a_password_is_what_is_wanted(look: Look, tmp_path: Path) -> None:
    with redis_server(tmp_path, "--appendonly", "yes", password=PASSWORD) as port:
        found = look(KRONOS_REDIS__URL=f"redis://:{PASSWORD}@127.0.0.1:{port}/0")
        assert {found[f"redis{more}"].state for more in ("", " writes", " memory", " persistence", " password")} == {
            "ok"
        }
        refused = look(KRONOS_REDIS__URL=f"redis://:wrong@127.0.0.1:{port}/0")
        without = look(KRONOS_REDIS__URL=f"redis://127.0.0.1:{port}/0")
    for one in (refused["redis"], without["redis"]):
        assert (one.state, "refuses us" in one.what, "KRONOS_REDIS__URL" in str(one.todo)) == ("wrong", True, True)
        assert PASSWORD not in one.what


def test_an_absent_redis_is_told_and_the_model_is_looked_at_all_the_same(run: Run) -> None:
    shown = run("doctor", KRONOS_REDIS__URL=f"redis://:{PASSWORD}@127.0.0.1:{free_port()}/0")
    assert shown.returncode == 1
    first, *others = shown.stdout.splitlines()
    assert first.startswith("wrong   redis: Redis at redis://127.0.0.1:")
    assert "does not answer" in first
    assert PASSWORD not in shown.stdout + shown.stderr
    assert any("checkpoint: Kronos-small" in line for line in others)


@pytest.mark.usefixtures("healthy")
def test_a_replica_takes_no_writes(look: Look, redis_port: int, tmp_path: Path) -> None:
    with redis_server(tmp_path, "--replicaof", "127.0.0.1", str(redis_port)) as port:
        copy = Redis(port=port)
        deadline = time.monotonic() + 60
        while copy.info("replication")["master_link_status"] != "up" or not copy.exists("kronos:series"):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        found = look(KRONOS_REDIS__URL=f"redis://127.0.0.1:{port}/0")
    assert not_well(found) == {"redis writes": "wrong"}
    assert "primary" in str(found["redis writes"].todo)


@pytest.mark.usefixtures("healthy")
def test_a_full_redis_and_one_that_forgets_are_wrong(look: Look, redis: Redis) -> None:
    redis.config_set("maxmemory", redis.info("memory")["used_memory"] // 2)
    assert not_well(look()) == {"redis writes": "wrong", "redis memory": "wrong"}
    redis.config_set("maxmemory", 1 << 30)
    redis.config_set("maxmemory-policy", "allkeys-lru")
    found = look()
    assert not_well(found) == {"redis memory": "wrong"}
    assert "noeviction" in str(found["redis memory"].todo)


def test_where_nobody_works_that_is_wrong(look: Look, stores: Stores) -> None:
    forecast_stored(stores, ingested(stores))
    found = look()
    assert not_well(found) == {"ingest": "wrong", "workers": "wrong"}
    assert "kronos-live worker" in str(found["workers"].todo)


def test_a_worker_that_is_not_heard_of_is_told_by_its_name(look: Look, redis: Redis, healthy: SimpleWorker) -> None:
    unheard_of(redis, healthy.name, seconds=90)
    assert not_well(look()) == {"workers": "wrong"}
    worker_alive(redis)
    found = look()
    assert not_well(found) == {"workers": "warning"}
    assert healthy.name in found["workers"].what


@pytest.mark.usefixtures("healthy")
def test_a_queue_that_does_not_keep_up_is_wrong(look: Look, redis: Redis, run: Run) -> None:
    forecast_id = run("forecast").stdout.strip()
    assert not_well(look()) == {}
    enqueued = utcformat(datetime.now(UTC) - timedelta(seconds=HOUR_S + 60))
    redis.hset(Job.key_for(forecast_id), "enqueued_at", enqueued)
    found = look()
    assert not_well(found) == {"queue": "wrong"}
    assert "longer than the shortest interval (3600 s)" in found["queue"].what
    full = look(KRONOS_LIMITS__MAX_QUEUED="1")
    assert "limits.max_queued is 1" in full["room in the queue"].what


@pytest.mark.usefixtures("healthy")
def test_what_failed_for_good_is_counted_and_listed(look: Look, redis: Redis, run: Run) -> None:
    queue = Queue(settings().queue.name, connection=redis, serializer=JSONSerializer)
    for _ in range(2):
        queue.enqueue_call("services.nowhere.nothing")
    other = SimpleWorker([queue], connection=redis, serializer=JSONSerializer)
    other.work(burst=True, logging_level="CRITICAL")
    found = look()
    assert not_well(found) == {"failed forecasts": "warning"}
    assert found["failed forecasts"].what.startswith("2 failed")
    listed = json.loads(run("failed", "--json").stdout)
    assert sorted(one["id"] for one in listed) == sorted(queue.failed_job_registry.get_job_ids())
    assert all(one["id"] in run("failed").stdout.replace("\n", "") for one in listed)
    assert len(json.loads(run("failed", "--json", "--limit", "1").stdout)) == 1


@pytest.mark.usefixtures("healthy")
def test_each_series_is_judged_by_itself(look: Look, stores: Stores) -> None:
    ingested(stores, symbol="ETHUSDT", last_open_time_ms=START_MS)
    forecast_stored(stores, ingested(stores, symbol="SOLUSDT", origin="simulated", problem="No venue answered."))
    ingested(stores, symbol="XRPUSDT")
    found = look(KRONOS_DATA__SERIES="ETHUSDT:1h,SOLUSDT:1h,XRPUSDT:1h,ADAUSDT:1h")
    assert not_well(found) == {
        "klines of ETHUSDT 1h": "wrong",
        "forecast of ETHUSDT 1h": "wrong",
        "klines of SOLUSDT 1h": "warning",
        "forecast of XRPUSDT 1h": "wrong",
        "klines of ADAUSDT 1h": "wrong",
    }
    for symbol, words in {"ETH": "stale", "SOL": "made up: No venue answered.", "ADA": "never been fetched"}.items():
        assert words in found[f"klines of {symbol}USDT 1h"].what


@pytest.mark.usefixtures("healthy")
def test_a_forecast_older_than_two_intervals_is_wrong_and_that_of_a_recording_is_not(
    look: Look, stores: Stores
) -> None:
    forecast_stored(stores, ingested(stores, symbol="ETHUSDT", origin="recorded", last_open_time_ms=START_MS))
    both = {"KRONOS_DATA__SERIES": "ETHUSDT:1h"}
    assert not_well(look(**both)) == {}
    later = look(at_s=time.time() + 2 * HOUR_S + 60, **both)
    assert "over 2 intervals" in later["forecast of BTCUSDT 1h"].what
    assert later["forecast of ETHUSDT 1h"].state == later["klines of ETHUSDT 1h"].state == "ok"
    assert "Redis' clock is 7260 s behind" in later["clock of redis"].what


def test_a_clock_that_differs_from_the_venues_is_found_through_ingest(
    look: Look, redis_url: str, tmp_path: Path
) -> None:
    port = free_port()
    knobs = {"KRONOS_METRICS__INGEST_PORT": str(port)}
    ahead = VenueServer(now_ms=lambda: time.time_ns() // 1_000_000 + 90_000)
    with ahead as server, ingest(redis_url, tmp_path, server.url, **knobs) as running:
        told(running, "kronos_ingest_cycles_total", 1, outcome="real")
        found = look(**knobs)
    assert found["clock of the venue"].state == "wrong"
    assert "ahead of this machine's" in found["clock of the venue"].what
    assert "not known" in look(**knobs)["clock of the venue"].what
    assert "not known" in look(KRONOS_METRICS__ENABLED="false")["clock of the venue"].what


def test_the_model_is_loaded_as_a_worker_would_load_it(look: Look, redis_url: str, tmp_path: Path) -> None:
    own = look()["checkpoint"]
    assert (own.state, "is not the published one (sha256 " in own.what) == ("warning", True)
    bundled = look(KRONOS_MODEL__MODEL_NAME="Kronos-nano")["checkpoint"]
    assert re.fullmatch(
        r"Kronos-nano \(bundled\) loads: sha256 [0-9a-f]{12}, its tokenizer [0-9a-f]{12}\.", bundled.what
    )
    away = {"KRONOS_MODEL__LOCAL_DIR": str(tmp_path / "none")}
    instead = look(**away)["checkpoint"]
    assert (instead.state, "Kronos-nano stands in" in instead.what) == ("warning", True)
    assert look(**away, KRONOS_MODEL__ALLOW_BUNDLED="false")["checkpoint"].state == "wrong"
    broken = tmp_path / "Kronos-small" / "model.safetensors"
    broken.write_bytes(broken.read_bytes()[:-1])
    assert look(KRONOS_MODEL__LOCAL_DIR=str(tmp_path))["checkpoint"].state == "wrong"


def test_the_hub_is_asked_for_what_is_not_here_and_nothing_is_fetched(run: Run, tmp_path: Path) -> None:
    def checkpoint(endpoint: str) -> dict[str, str]:
        knobs = {"KRONOS_MODEL__LOCAL_DIR": str(tmp_path / "none"), "KRONOS_MODEL__ALLOW_HUB": "true"}
        shown = run("doctor", "--json", HF_ENDPOINT=endpoint, HF_HOME=str(tmp_path / "hub"), **knobs)
        return next(one for one in json.loads(shown.stdout) if one["check"] == "checkpoint")

    with running_hub(write_tiny_models(tmp_path / "offered")) as hub:
        there = checkpoint(hub.url)
        # The library asks for more, such as its own newest version.
        resolved = [line for line in hub.requests if "/resolve/" in line]
        assert {line.split()[0] for line in resolved} == {"HEAD"}
    assert (there["state"], "the hub answers" in there["what"]) == ("ok", True)
    gone = checkpoint(hub.url)
    assert (gone["state"], "the hub cannot be reached" in gone["what"]) == ("warning", True)


def test_a_worker_whose_model_stands_in_for_another_says_so(look: Look, redis: Redis, healthy: SimpleWorker) -> None:
    model = {"name": "Kronos-nano", "source": "bundled", "stands_in_for": "Kronos-small"}
    how = {"device": "cpu", "dtype": "float32", "kernels": "torch"}
    redis.hset(healthy.key, "kronos_model", json.dumps({**model, **how}))
    found = look()
    assert not_well(found) == {"loaded model": "warning"}
    assert "stands in for Kronos-small" in found["loaded model"].what


def test_who_may_write_is_judged_by_what_the_page_would_start_with(look: Look, redis_url: str) -> None:
    assert "Only this machine" in look()["access"].what
    beyond = {"KRONOS_WEB__HOST": "0.0.0.0"}  # noqa: S104 - said, not listened on
    refused = look(**beyond)["access"]
    assert (refused.state, "KRONOS_WEB__WRITE_TOKEN" in refused.what) == ("wrong", True)
    assert "you trust them" in look(**beyond, KRONOS_WEB__PUBLIC="false")["access"].what
    assert "Only this machine" in look(**beyond, KRONOS_WEB__PUBLISHED="127.0.0.1:8000")["access"].what
    published = look(**beyond, KRONOS_WEB__PUBLISHED="0.0.0.0:8000")["access"]
    assert (published.state, "published on 0.0.0.0:8000" in published.what) == ("wrong", True)
    assert look(**beyond, KRONOS_WEB__WRITE_TOKEN="secret")["access"].state == "warning"  # noqa: S106
    assert look(**beyond, KRONOS_WEB__WRITE_TOKEN=32 * "k")["access"].state == "ok"


@pytest.mark.usefixtures("healthy")
def test_where_people_want_to_be_told_somebody_must_watch(look: Look, redis: Redis) -> None:
    assert "alerts" not in look()
    nobody = look(KRONOS_ALERTS__ENABLED="true")["alerts"]
    assert (nobody.state, "kronos-live alerts run" in (nobody.todo or "")) == ("warning", True)
    AlertStore(redis).give_sign_of_life("elsewhere")
    assert look(KRONOS_ALERTS__ENABLED="true")["alerts"].state == "ok"


def test_it_writes_nothing_but_a_key_of_its_own_that_goes_by_itself(look: Look, redis: Redis) -> None:
    stores_on(redis)
    look()
    assert redis.keys("*") == [b"kronos:doctor"]
    assert 0 < redis.ttl("kronos:doctor") <= 60
