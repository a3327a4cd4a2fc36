"""A forecast of a symbol that nobody ingests: it waits for a fetch that a running ingest makes, and then goes its way."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import httpx
import pytest
from redis import Redis

from services.web.situation import Stores
from tests.builders import settings
from tests.ingest_parts import nowhere
from tests.integration.test_web_bad_input import ASK, problem
from tests.processes import Service, eventually, service
from tests.tiny_models import write_tiny_models
from tests.venue_server import VenueServer
from tests.web_server import HOUR_MS, ingest_alive, ingested, newest_closed_candle, web_server

Start = Callable[..., AbstractContextManager[Service]]
SOL = {"symbol": "SOLUSDT", "horizon": 4, "num_samples": 5}
DEFERRED = f"rq:deferred:{settings().queue.name}"
FETCHES = f"rq:queue:{settings().queue.ingest_name}"


@pytest.fixture
def venue() -> Iterator[VenueServer]:
    with VenueServer(real=False) as server:
        yield server


@pytest.fixture
def start(redis_url: str, venue: VenueServer, tmp_path: Path) -> Start:
    environment = {
        "KRONOS_REDIS__URL": redis_url,
        "KRONOS_DATA__VENUES": "binance",
        "KRONOS_VENUES__BINANCE_URLS": venue.url,
        "KRONOS_VENUES__OKX_URL": venue.url,
        "KRONOS_VENUES__BYBIT_URL": venue.url,
        "KRONOS_MODEL__LOCAL_DIR": str(write_tiny_models(tmp_path / "models")),
        "KRONOS_MODEL__ALLOW_HUB": "false",
        "KRONOS_WORKER__THREADS": "1",
    }
    return lambda command, **knobs: service(command, {**environment, **knobs}, tmp_path)


def ends(web: httpx.Client, forecast_id: str, seconds: float = 60) -> dict[str, Any]:
    """Wait for the end of a forecast and return the API's answer."""

    def answer() -> dict[str, Any]:
        return dict(web.get(f"{ASK}/{forecast_id}").json())

    eventually(lambda: answer()["state"] not in ("queued", "running"), seconds, lambda: str(answer()))
    return answer()


def test_a_forecast_waits_for_its_klines_and_is_made_on_them(web: httpx.Client, stores: Stores, start: Start) -> None:
    with start("ingest") as ingest, start("worker") as worker:
        ingest.wait_for_log("fetches_taken")
        worker.wait_for_log("worker_ready")
        asked = web.post(ASK, json=SOL)
        assert (asked.status_code, asked.json()["reused"]) == (202, False)
        done = ends(web, asked.json()["id"])
    assert done["state"] == "finished", done
    record = done["forecast"]
    made = record["provenance"]
    assert (made["venue"], made["origin"]) == ("binance", "live")
    window = stores.klines.load(made["snapshot_id"])
    assert (window.symbol, window.interval, window.content_hash()) == ("SOLUSDT", "1h", made["snapshot_sha256"])
    assert record["last_open_time_ms"] == window.last_open_time_ms == newest_closed_candle()
    assert record["request"]["snapshot_id"] == made["snapshot_id"]
    assert record["request"]["fetched_by"].startswith("fetch-SOLUSDT-1h-")
    assert "FETCHED ONCE" in done["labels"]
    listed = web.get(ASK, params={"symbol": "SOLUSDT"}).json()["forecasts"]
    assert [one["id"] for one in listed] == [done["id"]]
    kept_up = web.get("/api/v1/series").json()["series"]
    assert [one["symbol"] for one in kept_up] == ["BTCUSDT"]


def test_a_symbol_that_no_venue_trades_fails_with_one_sentence(
    web: httpx.Client, start: Start, venue: VenueServer
) -> None:
    venue.tells_symbols = False  # else it would be refused at once
    with start("ingest") as ingest, start("worker") as worker:
        ingest.wait_for_log("fetches_taken")
        done = ends(web, web.post(ASK, json={**SOL, "symbol": "NOSUCHUSDT"}).json()["id"])
        assert done["state"] == "failed"
        assert done["error"] == (
            "NOSUCHUSDT is traded at none of the venues that are asked (binance): write it as Binance does, as in BTCUSDT."
        )
        assert done["tries"] == 1  # the forecast itself is not tried again
        assert "Traceback" not in ingest.log()
        assert worker.log().count("forecast_failed") == 1


def test_a_venue_that_is_down_is_named_and_nothing_is_made_up(web: httpx.Client, start: Start) -> None:
    away = nowhere()
    with start("ingest", KRONOS_VENUES__BINANCE_URLS=away) as ingest, start("worker"):
        ingest.wait_for_log("fetches_taken")
        done = ends(web, web.post(ASK, json=SOL).json()["id"])
        assert done["state"] == "failed"
        assert "No venue gave klines of SOLUSDT 1h" in done["error"]
        assert "cannot be reached" in done["error"]
        assert "klines_simulated" in ingest.log()  # of the configured series, which may be
        again = web.post(ASK, json=SOL)
        assert (again.status_code, again.json()["reused"]) == (202, False)  # what failed stands for nobody


def test_a_venue_that_stumbles_once_is_asked_again(web: httpx.Client, start: Start, venue: VenueServer) -> None:
    with start("ingest") as ingest, start("worker"):
        ingest.wait_for_log("forecast_enqueued")
        venue.fail("lag", back=1)
        assert ends(web, web.post(ASK, json=SOL).json()["id"])["state"] == "finished"


def test_who_asks_for_the_same_candle_shares_a_fetch_and_the_same_question_is_one_forecast(
    web: httpx.Client, redis: Redis, stores: Stores, start: Start
) -> None:
    ingest_alive(redis)
    first, second = (web.post(ASK, json={**SOL, "seed": seed}).json() for seed in (1, 2))
    assert first["id"] != second["id"]
    assert redis.llen(FETCHES) == 1
    assert redis.zcard(DEFERRED) == 2
    again = web.post(ASK, json={**SOL, "seed": 1})
    assert (again.status_code, again.json()["id"], again.json()["reused"]) == (200, first["id"], True)
    queue = web.get("/api/v1/queue").json()
    assert (queue["waiting"], queue["fetching"], queue["ingests"]) == (2, 2, 1)
    with start("ingest") as ingest, start("worker"):
        one, other = (ends(web, asked["id"]) for asked in (first, second))
        assert one["forecast"]["request"]["fetched_by"] == other["forecast"]["request"]["fetched_by"]
        assert ingest.log().count('"event": "fetched"') == 1
    later = web.post(ASK, json={**SOL, "seed": 3}).json()  # the klines are there: it need not wait for them
    assert (later["state"], later["progress"]) == ("queued", None)
    assert (redis.llen(FETCHES), redis.zcard(DEFERRED)) == (0, 0)
    with start("worker"):
        forecast = ends(web, later["id"])["forecast"]
    assert forecast["provenance"]["snapshot_id"] == one["forecast"]["provenance"]["snapshot_id"]
    finished = web.post(ASK, json={**SOL, "seed": 1})
    assert (finished.json()["state"], finished.json()["reused"]) == ("finished", True)


def test_many_at_once_who_ask_for_the_same_get_one_fetch_and_one_forecast(
    web: httpx.Client, redis: Redis, stores: Stores
) -> None:
    ingest_alive(redis)
    with ThreadPoolExecutor(8) as many:
        answers = list(many.map(lambda _: web.post(ASK, json=SOL), range(16)))
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert sorted(answer.status_code for answer in answers) == [200] * 15 + [202]
    assert (stores.queue.waiting(), redis.llen(FETCHES)) == (1, 1)


def test_of_a_panel_only_those_wait_whose_klines_are_not_there(
    web: httpx.Client, redis: Redis, stores: Stores, start: Start
) -> None:
    ingested(stores)
    ingest_alive(redis)
    panel = web.post(ASK, json={"symbols": ["BTCUSDT", "SOLUSDT", "ETHUSDT"], "horizon": 4, "num_samples": 5})
    there, *fetched = panel.json()["forecasts"]
    assert (there["position"], there["progress"]) == (0, None)
    assert [one["progress"]["phase"] for one in fetched] == ["waiting for ingest"] * 2
    assert redis.llen(FETCHES) == 2
    with start("ingest"), start("worker", KRONOS_WORKER__FORECASTS_AT_ONCE="4"):
        symbols = [ends(web, one["id"])["forecast"]["request"]["symbol"] for one in panel.json()["forecasts"]]
    assert symbols == ["BTCUSDT", "SOLUSDT", "ETHUSDT"]


def test_a_forecast_that_waits_for_klines_can_be_cancelled_and_the_fetch_goes_on_for_others(
    web: httpx.Client, redis: Redis, start: Start
) -> None:
    ingest_alive(redis)
    unwanted, wanted = (web.post(ASK, json={**SOL, "seed": seed}).json()["id"] for seed in (1, 2))
    assert web.delete(f"{ASK}/{unwanted}").json()["state"] == "cancelled"
    assert web.delete(f"{ASK}/{unwanted}").json()["progress"] is None
    assert redis.zrange(DEFERRED, 0, -1) == [wanted.encode()]
    assert web.get("/api/v1/queue").json()["waiting"] == 1
    with start("ingest"), start("worker"):
        assert ends(web, wanted)["state"] == "finished"
        assert web.get(f"{ASK}/{unwanted}").json()["state"] == "cancelled"
    assert redis.zcard(DEFERRED) == 0
    assert web.get("/api/v1/queue").json()["waiting"] == 0


def test_a_series_that_has_grown_old_is_fetched_anew(web: httpx.Client, stores: Stores, start: Start) -> None:
    old = newest_closed_candle() - 30 * HOUR_MS
    ingested(stores, symbol="SOLUSDT", last_open_time_ms=old)
    assert "is stale: ingest has brought nothing" in problem(web.post(ASK, json=SOL), 422)["detail"]
    with start("ingest") as ingest, start("worker"):
        ingest.wait_for_log("fetches_taken")
        done = ends(web, web.post(ASK, json=SOL).json()["id"])
    assert done["forecast"]["last_open_time_ms"] == newest_closed_candle()


def test_forecasts_that_wait_for_klines_count_against_the_limit(redis: Redis, redis_url: str, tmp_path: Path) -> None:
    ingest_alive(redis)
    with (
        web_server(redis_url, tmp_path, KRONOS_LIMITS__MAX_QUEUED="2") as (address, _),
        httpx.Client(base_url=address, timeout=30, trust_env=False) as client,
    ):
        assert [client.post(ASK, json={**SOL, "seed": seed}).status_code for seed in (1, 2)] == [202, 202]
        refused = client.post(ASK, json={**SOL, "symbol": "ETHUSDT"})
        assert "2 forecasts wait already" in problem(refused, 429)["detail"]
        assert int(refused.headers["Retry-After"]) > 0
    assert redis.llen(FETCHES) == 1  # what was refused is not fetched


def test_without_an_ingest_it_is_refused_at_once(web: httpx.Client, redis: Redis, stores: Stores) -> None:
    ingested(stores)
    refused = problem(web.post(ASK, json=SOL), 422)
    assert refused["detail"] == (
        "SOLUSDT 1h is not ingested here; these series are: BTCUSDT 1h. Any other of a venue is fetched by ingest, which "
        "does not run: start `kronos-live ingest`."
    )
    assert refused["errors"][0]["field"] == "symbol"
    assert (stores.queue.waiting(), redis.llen(FETCHES), redis.keys("kronos:asked:*")) == (0, 0, [])


def test_beside_a_recording_nothing_else_can_be_had(redis: Redis, redis_url: str, tmp_path: Path) -> None:
    ingest_alive(redis)
    recorded = {"KRONOS_DATA__VENUES": "recorded", "KRONOS_DATA__RECORDED_FILE": "one.csv"}
    with (
        web_server(redis_url, tmp_path, **recorded) as (address, _),
        httpx.Client(base_url=address, timeout=30, trust_env=False) as client,
    ):
        assert "recorded_file holds one series alone" in problem(client.post(ASK, json=SOL), 422)["detail"]


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_what_an_ingest_was_fetching_when_it_ended_is_fetched_by_the_next(
    web: httpx.Client, redis: Redis, start: Start, venue: VenueServer, how: signal.Signals
) -> None:
    with start("ingest", KRONOS_VENUES__SEARCH_SECONDS="60") as ingest:
        ingest.wait_for_log("forecast_enqueued")  # the schedule's turn is over
        ingest.wait_for_log("fetches_taken")
        venue.fail("slow", seconds=60)
        asked = web.post(ASK, json=SOL).json()["id"]

        def phase() -> str:
            return str(web.get(f"{ASK}/{asked}").json()["progress"]["phase"])

        eventually(lambda: phase() == "fetching klines", 20, ingest.log)
        begun = time.monotonic()
        ingest.end(how)
        assert time.monotonic() - begun < 15
        if how == signal.SIGTERM:
            assert phase() == "waiting for ingest"
            assert web.get("/api/v1/queue").json()["ingests"] == 0
            assert "fetch_given_back" in ingest.log()
            assert "Traceback" not in ingest.log()
    with start("ingest") as other, start("worker"):
        assert ends(web, asked)["state"] == "finished", other.log()


def test_what_people_ask_for_does_not_wait_behind_the_series_of_the_schedule(
    web: httpx.Client, stores: Stores, start: Start, venue: VenueServer
) -> None:
    venue.symbols = [*venue.symbols, *(f"C{place}USDT" for place in range(60))]
    scheduled = ",".join(f"{symbol}:1h" for symbol in venue.symbols if symbol != SOL["symbol"])
    slow = {"KRONOS_DATA__SERIES": scheduled, "KRONOS_VENUES__BINANCE_REQUESTS_PER_MINUTE": "60"}  # two minutes for all
    with start("ingest", **slow) as ingest:
        ingest.wait_for_log("forecast_enqueued")
        ingest.wait_for_log("fetches_taken")
        web.post(ASK, json=SOL)
        ingest.wait_for_log('"event": "fetched"')
        assert len(stores.klines.all_statuses()) < 50


def test_two_ingests_share_the_work(web: httpx.Client, redis: Redis, start: Start) -> None:
    with start("ingest") as one, start("ingest") as other, start("worker"):
        for ingest in (one, other):
            ingest.wait_for_log("fetches_taken")
        asked = [
            web.post(ASK, json={**SOL, "interval": interval}).json()["id"] for interval in ("15m", "30m", "4h", "1d")
        ]
        assert [ends(web, forecast_id)["state"] for forecast_id in asked] == ["finished"] * 4
        fetched = [ingest.log().count('"event": "fetched"') for ingest in (one, other)]
        assert sum(fetched) == 4


def test_an_ingest_goes_on_fetching_after_redis_was_away(web: httpx.Client, redis: Redis, start: Start) -> None:
    with start("ingest") as ingest, start("worker"):
        ingest.wait_for_log("fetches_taken")
        redis.client_kill_filter(_type="normal", skipme=True)
        assert ends(web, web.post(ASK, json=SOL).json()["id"])["state"] == "finished"


def test_the_page_of_such_a_forecast_says_what_it_waits_for_and_later_that_nothing_follows(
    web: httpx.Client, redis: Redis, start: Start
) -> None:
    ingest_alive(redis)
    forecast_id = web.post(ASK, json=SOL).json()["id"]
    waiting = web.get(f"/forecasts/{forecast_id}").text
    assert "FETCHING KLINES" in waiting
    assert "waits for an ingest to fetch its klines" in waiting
    assert "正在抓取 K 线" in web.get(f"/forecasts/{forecast_id}", params={"lang": "zh"}).text
    with start("ingest"), start("worker"):
        ends(web, forecast_id)
    shown = web.get(f"/forecasts/{forecast_id}", params={"lang": "en"}).text
    assert "FETCHED ONCE" in shown
    assert 'notice live"' not in shown


def test_a_symbol_that_no_venue_lists_is_refused_at_once_with_what_is_written_nearly_alike(
    web: httpx.Client, redis: Redis, start: Start
) -> None:
    with start("ingest", KRONOS_DATA__VENUES="binance,okx,bybit") as ingest:
        ingest.wait_for_log("fetches_taken")
        eventually(lambda: len(redis.keys("kronos:symbols:*")) == 3, 20, ingest.log)
        refused = problem(web.post(ASK, json={"symbol": "SOLUSTD"}), 422)
        assert refused["detail"] == (
            "SOLUSTD is traded at none of the venues that are asked (binance, okx, bybit): write it as Binance does, as in "
            "BTCUSDT; nearly alike are SOLUSDT."
        )
        assert refused["errors"][0]["field"] == "symbol"
        panel = problem(web.post(ASK, json={"symbols": ["SOLUSDT", "QQQ"]}), 422)
        assert (panel["errors"][0]["field"], panel["detail"].split()[0]) == ("symbols", "QQQ")
        assert web.post(ASK, json=SOL).status_code == 202


def test_where_one_venue_has_not_said_what_it_trades_a_fetch_finds_out(
    web: httpx.Client, redis: Redis, stores: Stores
) -> None:
    ingest_alive(redis)
    for venue in ("binance", "okx"):  # not bybit, which is asked as well
        stores.queue.fetches.symbols.save(venue, {"BTCUSDT"})
    assert web.post(ASK, json=SOL).status_code == 202
    assert redis.llen(FETCHES) == 1
