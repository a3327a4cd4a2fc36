"""Whatever is sent, the answer is one clear problem that names the field; nothing crashes and nothing is lost."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import httpx
import pytest
from redis import Redis

from services.web.situation import Stores
from tests.builders import START_MS, settings
from tests.web_server import forecast_stored, ingested, web_server

ASK = "/api/v1/forecasts"


def problem(answer: httpx.Response, status: int) -> dict[str, Any]:
    """The problem of an answer, checked for the members that every problem has."""
    assert answer.status_code == status, answer.text
    assert answer.headers["Content-Type"] == "application/problem+json"
    body = answer.json()
    assert set(body) >= {"type", "title", "status", "detail", "errors"}
    assert body["status"] == status
    assert "Traceback" not in answer.text
    assert body["detail"].endswith((".", ":"))
    return dict(body)


@pytest.fixture(autouse=True)
def _one_series_with_a_forecast(web: httpx.Client, stores: Stores) -> None:
    forecast_stored(stores, ingested(stores))


@pytest.mark.parametrize(
    ("wish", "field", "words"),
    [
        ({"symbol": "DOGEUSDT"}, "symbol", ["DOGEUSDT 1h", "not ingested", "BTCUSDT 1h"]),
        ({"interval": "4h"}, "symbol", ["BTCUSDT 4h", "BTCUSDT 1h"]),
        ({"interval": "7m"}, "interval", ["7m", "1h"]),
        ({"symbol": "btc/usdt"}, "symbol", ["btc/usdt", "capital letters"]),
        ({"horizon": 0}, "horizon", ["0", "1 to 448"]),
        ({"horizon": 10_000}, "horizon", ["10000", "1 to 448"]),
        ({"horizon": 2.5}, "horizon", ["2.5", "whole number"]),
        ({"horizon": "many"}, "horizon", ["many", "1 to 448"]),
        ({"horizon": True}, "horizon", ["True", "whole number"]),
        ({"top_k": "5"}, "top_k", ["'5'", "whole number"]),
        ({"temperature": -1}, "temperature", ["-1", "above 0, to 5"]),
        ({"temperature": 0}, "temperature", ["0", "above 0"]),
        ({"top_p": 1.1}, "top_p", ["1.1", "above 0, to 1"]),
        ({"top_k": -1}, "top_k", ["-1", "from 0"]),
        ({"symbol": "BTC\ud800"}, "symbol", ["'BTC\\ud800'", "capital letters"]),
        ({"\udfff": 1}, "?", ["not something to ask for"]),
        ({"history": 63}, "history", ["63", "64 to 1000", "limits.max_history"]),
        ({"history": 1001}, "history", ["1001", "64 to 1000", "limits.max_history"]),
        ({"num_samples": 0}, "num_samples", ["0", "1 to 10000", "limits.max_num_samples"]),
        ({"num_samples": 20_000}, "num_samples", ["20000", "1 to 10000"]),
        ({"num_samples": 10_001}, "num_samples", ["10001", "1 to 10000", "limits.max_num_samples"]),
        ({"seed": -5}, "seed", ["-5", "from 0"]),
        ({"model": "Kronos-huge"}, "model", ["Kronos-huge", "Kronos-mini", "Kronos-small", "Kronos-base"]),
        ({"horizont": 24}, "horizont", ["horizont", "horizon"]),
        ({"symbols": "BTCUSDT"}, "symbols", ["'BTCUSDT'", "a list of 2 to 64 different symbols"]),
        ({"symbols": []}, "symbols", ["[]", "a list of 2 to 64"]),
        ({"symbols": ["BTCUSDT"]}, "symbols", ["['BTCUSDT']", "a list of 2 to 64"]),
        ({"symbols": [f"C{n}USDT" for n in range(65)]}, "symbols", ["a list of 2 to 64"]),
        ({"symbols": ["BTCUSDT", "eth/usdt"]}, "symbols", ["symbols[1] is 'eth/usdt'", "capital letters"]),
        ({"symbols": ["BTCUSDT", 7]}, "symbols", ["symbols[1] is 7", "capital letters"]),
        ({"symbols": ["BTCUSDT", ["ETHUSDT"]]}, "symbols", ["symbols[1] is ['ETHUSDT']", "capital letters"]),
        ({"symbols": ["BTCUSDT", "ETHUSDT", "BTCUSDT"]}, "symbols", ["BTCUSDT twice", "different symbols"]),
        ({"symbols": ["BTCUSDT", "ETHUSDT"], "symbol": "BTCUSDT"}, "symbols", ["beside symbol (BTCUSDT)", "one of"]),
        ({"symbols": ["BTCUSDT", "DOGEUSDT"]}, "symbols", ["DOGEUSDT 1h", "not ingested", "BTCUSDT 1h"]),
        ({"symbols": {"BTCUSDT": 1, "ETHUSDT": 2}}, "symbols", ["a list of 2 to 64"]),
    ],
)
def test_a_wish_out_of_range_names_field_value_and_range(
    web: httpx.Client, wish: dict[str, object], field: str, words: list[str]
) -> None:
    body = json.dumps(wish)  # in ASCII, so that half a character can be sent
    refused = problem(web.post(ASK, content=body, headers={"Content-Type": "application/json"}), 422)
    assert [error["field"] for error in refused["errors"]] == [field]
    for word in words:
        assert word in refused["detail"]


def test_a_series_that_ingest_has_left_is_not_forecast_from(web: httpx.Client, redis: Redis, stores: Stores) -> None:
    ingested(stores, last_open_time_ms=START_MS)
    refused = problem(web.post(ASK), 422)
    assert refused["errors"][0]["field"] == "symbol"
    assert "BTCUSDT 1h is stale" in refused["detail"]
    assert "nothing since the candle that closed at 2025-01-01 01:00:00Z" in refused["detail"]
    assert "these series are: BTCUSDT 1h (stale)" in problem(web.post(ASK, json={"symbol": "DOGEUSDT"}), 422)["detail"]
    assert not redis.keys("rq:job:*")


def test_a_recording_is_forecast_from_however_old_it_is(web: httpx.Client, stores: Stores) -> None:
    ingested(stores, last_open_time_ms=START_MS, origin="recorded")
    assert web.post(ASK).status_code == 202


@pytest.mark.parametrize(("overflow", "longest"), [("trim", 64), ("slide", 128)])
def test_the_longest_horizon_is_what_the_configured_context_has_room_for(
    redis_url: str, tmp_path: Path, stores: Stores, overflow: str, longest: int
) -> None:
    ingested(stores)
    knobs = {"KRONOS_MODEL__MAX_CONTEXT": "128", "KRONOS_MODEL__OVERFLOW": overflow}
    with web_server(redis_url, tmp_path, **knobs) as (address, _), httpx.Client(base_url=address, timeout=30) as client:
        assert client.post(ASK, json={"horizon": longest}).status_code == 202
        for horizon in (longest + 1, 10_000):
            refused = problem(client.post(ASK, json={"horizon": horizon}), 422)
            assert f"from 1 to {longest} (model.max_context)" in refused["detail"]


@pytest.mark.parametrize(
    "body",
    ["not json", "{", '{"horizon": 24', "{'horizon': 24}", '{"temperature": NaN}', '{"top_p": Infinity}', "[" * 20_000],
)
def test_a_body_that_is_not_json_is_malformed(web: httpx.Client, body: str) -> None:
    refused = problem(web.post(ASK, content=body, headers={"Content-Type": "application/json"}), 400)
    assert "not valid JSON" in refused["detail"]


def test_bytes_that_are_no_text_are_malformed(web: httpx.Client) -> None:
    problem(web.post(ASK, content=b"\xff\xfe\x00", headers={"Content-Type": "application/json"}), 400)


@pytest.mark.parametrize("body", ["[]", "24", "null", '"BTCUSDT"', '"{}"', "true"])
def test_json_that_is_no_object_is_refused(web: httpx.Client, body: str) -> None:
    refused = problem(web.post(ASK, content=body, headers={"Content-Type": "application/json"}), 422)
    assert "JSON object" in refused["detail"]


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"])
def test_a_body_of_another_type_is_refused_by_its_type(web: httpx.Client, kind: str) -> None:
    refused = problem(web.post(ASK, content="{}", headers={"Content-Type": kind}), 415)
    assert refused["errors"][0]["field"] == "Content-Type"


def test_two_megabytes_of_body_are_too_much(web: httpx.Client) -> None:
    refused = problem(web.post(ASK, content=b" " * 2_000_000, headers={"Content-Type": "application/json"}), 413)
    assert "524288 bytes" in refused["detail"]
    assert "limits.max_body_bytes" in refused["detail"]


def test_two_megabytes_without_a_stated_length_are_too_much_as_well(web: httpx.Client) -> None:
    chunks = (b" " * 1000 for _ in range(2000))
    problem(web.post(ASK, content=chunks, headers={"Content-Type": "application/json"}), 413)


def test_a_huge_value_does_not_come_back_in_the_answer(web: httpx.Client) -> None:
    refused = web.post(ASK, json={"symbol": "X" * 60_000})
    problem(refused, 422)
    assert len(refused.content) < 2_000


def test_a_body_that_is_cut_off_asks_for_nothing(web: httpx.Client, redis: Redis) -> None:
    with socket.create_connection((web.base_url.host, web.base_url.port or 0), timeout=30) as raw:
        raw.sendall(f"POST {ASK} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 40\r\n\r\n ".encode())
        raw.shutdown(socket.SHUT_WR)
        assert raw.recv(1000).startswith(b"HTTP/1.1 400")
    assert not redis.keys("rq:job:*")


def test_a_number_of_ten_thousand_digits_is_refused(web: httpx.Client) -> None:
    body = '{"seed": ' + "9" * 10_000 + "}"
    problem(web.post(ASK, content=body, headers={"Content-Type": "application/json"}), 400)


@pytest.mark.parametrize(
    "forecast_id", ["unknown", "BTCUSDT-1h-19700101T000000Z", "a" * 500, "%2e%2e", "x%00y", "ü", "a b", "*"]
)
@pytest.mark.parametrize("part", ["", "/paths.csv", "/chart.json"])
def test_an_unknown_id_is_not_found(web: httpx.Client, forecast_id: str, part: str) -> None:
    assert "no" in problem(web.get(f"{ASK}/{forecast_id}{part}"), 404)["detail"]


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("limit=0", "limit"),
        ("limit=201", "limit"),
        ("limit=x", "limit"),
        ("page=2", "page"),
        ("interval=7m", "interval"),
    ],
)
def test_a_parameter_out_of_range_is_named(web: httpx.Client, query: str, field: str) -> None:
    assert problem(web.get(f"{ASK}?{query}"), 422)["errors"][0]["field"] == field


def test_the_list_of_a_series_that_is_not_ingested_is_not_found(web: httpx.Client) -> None:
    assert "BTCUSDT 1h" in problem(web.get(f"{ASK}?symbol=DOGEUSDT"), 404)["detail"]


def test_an_address_that_is_not_there_and_a_method_that_is_not_possible_are_problems(web: httpx.Client) -> None:
    problem(web.get("/api/v1/nothing"), 404)
    refused = web.put(f"{ASK}/unknown")
    problem(refused, 405)
    assert "GET" in refused.headers["Allow"]


def test_a_browser_gets_a_page_where_a_program_gets_a_problem(web: httpx.Client) -> None:
    browser = web.get("/forecasts/unknown", headers={"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"})
    assert browser.status_code == 404
    assert browser.headers["Content-Type"].startswith("text/html")
    assert "unknown" in browser.text
    problem(web.get(f"{ASK}/unknown", headers={"Accept": "text/html"}), 404)


def test_a_name_in_an_address_cannot_become_markup(web: httpx.Client) -> None:
    page = web.get("/forecasts/<script>alert(1)</script>", headers={"Accept": "text/html"})
    assert page.status_code == 404
    assert "<script>alert" not in page.text


@pytest.mark.parametrize("headers", [{"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "cross-site"}])
def test_a_page_of_another_site_cannot_ask_for_forecasts(
    web: httpx.Client, headers: dict[str, str], redis: Redis
) -> None:
    problem(web.post(ASK, headers=headers), 403)
    assert not redis.keys("rq:job:*")


def test_what_is_no_http_at_all_does_not_take_the_server_down(web: httpx.Client) -> None:
    with socket.create_connection((web.base_url.host, web.base_url.port or 0), timeout=30) as raw:
        raw.sendall(b"\x16\x03\x01 garbage\r\n\r\n")
        assert raw.recv(1000).startswith(b"HTTP/1.1 400")
    assert web.get("/livez").status_code == 200


def test_a_full_queue_asks_to_come_back_later(web: httpx.Client, redis: Redis) -> None:
    redis.rpush("rq:queue:forecasts", *[f"waiting-{n}" for n in range(settings().limits.max_queued)])
    refused = web.post(ASK)
    problem(refused, 429)
    assert int(refused.headers["Retry-After"]) > 0


def test_of_a_panel_all_are_accepted_or_none(web: httpx.Client, redis: Redis, stores: Stores) -> None:
    ingested(stores, symbol="ETHUSDT")
    problem(web.post(ASK, json={"symbols": ["BTCUSDT", "ETHUSDT", "DOGEUSDT"]}), 422)
    ingested(stores, symbol="OLDUSDT", last_open_time_ms=START_MS)
    refused = problem(web.post(ASK, json={"symbols": ["BTCUSDT", "OLDUSDT"]}), 422)
    assert "OLDUSDT 1h is stale" in refused["detail"]
    assert refused["errors"][0]["field"] == "symbols"
    redis.rpush("rq:queue:forecasts", *[f"waiting-{n}" for n in range(settings().limits.max_queued - 1)])
    assert "ask for fewer symbols" in problem(web.post(ASK, json={"symbols": ["BTCUSDT", "ETHUSDT"]}), 429)["detail"]
    assert not redis.keys("rq:job:*")
    assert web.post(ASK, json={"symbol": "ETHUSDT"}).status_code == 202


def test_after_all_that_a_good_request_is_served_as_ever(web: httpx.Client) -> None:
    for body in ("not json", "[]", '{"horizon": 0}'):
        web.post(ASK, content=body, headers={"Content-Type": "application/json"})
    accepted = web.post(ASK, json={"horizon": 1})
    assert accepted.status_code == 202
    assert web.get(accepted.headers["Location"]).json()["state"] == "queued"
