"""Who asks too often is turned away with the time to wait; everybody else is served as ever."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest
from redis import Redis

from services.web.rate_limits import client_of
from services.web.situation import Stores
from shared.rate_limits import RateLimits
from tests.integration.test_web_bad_input import problem
from tests.processes import eventually
from tests.web_server import ingested, web_server

ASK = "/api/v1/forecasts"
TOKEN = {"Authorization": "Bearer s3cret"}
PUBLIC = {
    "KRONOS_WEB__PUBLIC": "true",
    "KRONOS_WEB__WRITE_TOKEN": "s3cret",
    "KRONOS_LIMITS__WRITES_PER_MINUTE": "3",
    "KRONOS_LIMITS__READS_PER_MINUTE": "5",
}


def client(address: str, forwarded_for: str | None = None) -> httpx.Client:
    headers = {**TOKEN, **({"X-Forwarded-For": forwarded_for} if forwarded_for else {})}
    return httpx.Client(base_url=address, headers=headers, timeout=30, trust_env=False)


def test_a_minutes_worth_is_at_hand_and_fills_up_again(redis: Redis) -> None:
    limits = RateLimits(redis)
    assert [limits.take("reads", "a", 4) for _ in range(4)] == [0.0] * 4
    assert 0 < limits.take("reads", "a", 4) <= 15
    assert limits.take("reads", "b", 4) == limits.take("writes", "a", 4) == 0.0
    assert 0 < redis.pttl("kronos:rate:reads:a") <= 60_000
    taken = sum(limits.take("reads", "c", 600) == 0 for _ in range(700))
    assert taken >= 600
    eventually(lambda: limits.take("reads", "c", 600) == 0, 60)


def test_writes_are_counted_by_client_whatever_becomes_of_them(redis_url: str, stores: Stores, tmp_path: Path) -> None:
    ingested(stores)
    with web_server(redis_url, tmp_path, **PUBLIC) as (address, _), client(address) as web:
        assert web.post(ASK, headers={"Authorization": "Bearer guessed"}).status_code == 401
        assert web.post(ASK).status_code == 202
        assert web.delete(f"{ASK}/unknown").status_code == 404
        refused = web.post(ASK)
        told = problem(refused, 429)
        assert 0 < int(refused.headers["Retry-After"]) <= 20
        for words in ("127.0.0.1", "3 a minute", "limits.writes_per_minute", f"in {refused.headers['Retry-After']} s"):
            assert words in told["detail"]
        assert web.get(ASK).status_code == 200, "reading is counted apart"
        with web_server(redis_url, tmp_path, **PUBLIC) as (other, _), client(other) as elsewhere:
            assert elsewhere.post(ASK).status_code == 429, "all web services count together"


def test_reads_are_counted_but_files_health_and_metrics_are_free(redis_url: str, tmp_path: Path) -> None:
    with web_server(redis_url, tmp_path, **PUBLIC) as (address, _), client(address) as web:
        for _ in range(5):
            assert web.get("/api/v1/series").status_code == 200
        assert problem(web.get("/api/v1/series"), 429)["errors"] == []
        page = web.get("/", headers={"Accept": "text/html"})
        assert (page.status_code, page.headers["Content-Type"]) == (429, "text/html; charset=utf-8")
        for free in ("/static/page.css", "/livez", "/metrics"):
            assert {web.get(free).status_code for _ in range(6)} == {200}


@pytest.mark.parametrize(("proxies", "second"), [("0", 429), ("1", 401)])
def test_behind_a_proxy_each_client_has_its_own(redis_url: str, tmp_path: Path, proxies: str, second: int) -> None:
    wrong = {"Authorization": "Bearer guessed"}
    with web_server(redis_url, tmp_path, **PUBLIC, KRONOS_WEB__PROXIES=proxies) as (address, _):
        with client(address, "203.0.113.7") as one, client(address, "203.0.113.8") as other:
            assert [one.post(ASK, headers=wrong).status_code for _ in range(4)] == [401, 401, 401, 429]
            assert other.post(ASK, headers=wrong).status_code == second
        with client(address, "203.0.113.9, 203.0.113.7") as liar:  # what a client says itself comes first
            assert liar.post(ASK, headers=wrong).status_code == 429


def test_on_this_machine_alone_nobody_is_counted(redis_url: str, redis: Redis, tmp_path: Path) -> None:
    few = {"KRONOS_LIMITS__WRITES_PER_MINUTE": "1", "KRONOS_LIMITS__READS_PER_MINUTE": "1"}
    with web_server(redis_url, tmp_path, **few) as (address, _), client(address) as web:
        assert {web.get("/api/v1/series").status_code for _ in range(5)} == {200}
        assert {web.post(ASK).status_code for _ in range(5)} == {422}
    assert not redis.keys("kronos:rate:*")


def test_no_limit_is_no_limit(redis_url: str, redis: Redis, tmp_path: Path) -> None:
    unlimited = {**PUBLIC, "KRONOS_LIMITS__READS_PER_MINUTE": "0"}
    with web_server(redis_url, tmp_path, **unlimited) as (address, _), client(address) as web:
        assert {web.get("/api/v1/series").status_code for _ in range(8)} == {200}
    assert not redis.keys("kronos:rate:*")


@pytest.mark.parametrize(
    ("address", "counted_as"),
    [
        ("203.0.113.7", "203.0.113.7"),
        ("::ffff:203.0.113.7", "203.0.113.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff::1", "2001:db8:1:2::/64"),
        ("", "unknown"),
        ("x\r\nkronos:series", "unknown"),
    ],
)
def test_a_client_is_an_address_or_a_network(address: str, counted_as: str) -> None:
    assert client_of(address) == counted_as
