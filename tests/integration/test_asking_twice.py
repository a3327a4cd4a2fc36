"""Asking twice: what is there already stands for what is asked, and a request that is sent again is carried out once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import httpx
import pytest
from redis import Redis

from services.web.situation import Stores
from tests.builders import settings
from tests.integration.test_web_api import enqueued_request
from tests.integration.test_web_bad_input import ASK, problem
from tests.web_server import HOUR_MS, forecast_stored, ingested, job_as_running, newest_closed_candle


def test_an_identical_request_gets_the_forecast_that_waits_runs_or_is_finished(
    web: httpx.Client, redis: Redis, stores: Stores
) -> None:
    window = ingested(stores)
    first = web.post(ASK, json={"horizon": 12})
    assert (first.status_code, first.json()["reused"]) == (202, False)
    again = web.post(ASK, json={"horizon": 12, "symbol": "BTCUSDT"})  # the same in more words
    assert (again.status_code, again.json()) == (200, {**first.json(), "reused": True})
    assert again.headers["Location"] == first.headers["Location"]
    job_as_running(redis, first.json()["id"], 1, 12)
    assert web.post(ASK, json={"horizon": 12}).json()["state"] == "running"
    forecast_stored(stores, window, forecast_id=first.json()["id"])
    redis.delete(f"rq:job:{first.json()['id']}")  # as the queue forgets what is finished
    finished = web.post(ASK, json={"horizon": 12})
    assert (finished.status_code, finished.json()["state"]) == (200, "finished")
    assert finished.json()["id"] == first.json()["id"]
    assert stores.queue.waiting() == 1


@pytest.mark.parametrize(
    "other", [{"horizon": 13}, {"horizon": 12, "seed": 1}, {"horizon": 12, "model": "Kronos-small"}, {}]
)
def test_another_request_gets_a_forecast_of_its_own(web: httpx.Client, stores: Stores, other: dict[str, int]) -> None:
    ingested(stores)
    first = web.post(ASK, json={"horizon": 12}).json()["id"]
    answer = web.post(ASK, json=other)
    assert (answer.status_code, answer.json()["reused"]) == (202, False)
    assert answer.json()["id"] != first


def test_the_next_candle_gets_a_forecast_of_its_own(web: httpx.Client, redis: Redis, stores: Stores) -> None:
    ingested(stores, last_open_time_ms=newest_closed_candle() - HOUR_MS)
    before = web.post(ASK).json()["id"]
    ingested(stores)
    after = web.post(ASK)
    assert after.status_code == 202
    assert enqueued_request(redis, after.json()["id"]).snapshot_id != enqueued_request(redis, before).snapshot_id


def test_a_seed_that_is_named_twice_is_drawn_once_and_any_other_anew(web: httpx.Client, stores: Stores) -> None:
    ingested(stores)
    ids = [web.post(ASK, json={"seed": seed}).json()["id"] for seed in (1, 1, 2)]
    assert ids[0] == ids[1] != ids[2]


@pytest.mark.parametrize("end", ["cancelled", "failed", "forgotten"])
def test_what_came_to_nothing_does_not_stand_for_anything(
    web: httpx.Client, redis: Redis, stores: Stores, end: str
) -> None:
    ingested(stores)
    first = web.post(ASK).json()["id"]
    if end == "cancelled":
        web.delete(f"{ASK}/{first}")
    elif end == "failed":
        redis.hset(f"rq:job:{first}", "status", "failed")
    else:
        redis.delete(f"rq:job:{first}")
    again = web.post(ASK)
    assert (again.status_code, again.json()["state"]) == (202, "queued")
    assert again.json()["id"] != first


def test_of_a_panel_each_member_says_whether_it_was_there(web: httpx.Client, stores: Stores) -> None:
    for symbol in ("BTCUSDT", "ETHUSDT"):
        ingested(stores, symbol=symbol)
    alone = web.post(ASK, json={"symbol": "ETHUSDT"}).json()["id"]
    panel = web.post(ASK, json={"symbols": ["BTCUSDT", "ETHUSDT"]})
    assert panel.status_code == 202
    assert [(one["symbol"], one["reused"]) for one in panel.json()["forecasts"]] == [
        ("BTCUSDT", False),
        ("ETHUSDT", True),
    ]
    assert panel.json()["forecasts"][1]["id"] == alone
    assert web.post(ASK, json={"symbols": ["BTCUSDT", "ETHUSDT"]}).status_code == 200
    assert stores.queue.waiting() == 2


def test_many_at_once_who_ask_for_the_same_get_one_forecast(web: httpx.Client, stores: Stores) -> None:
    ingested(stores)
    with ThreadPoolExecutor(8) as many:
        answers = list(many.map(lambda _: web.post(ASK), range(16)))
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert sorted(answer.status_code for answer in answers) == [200] * 15 + [202]
    assert stores.queue.waiting() == 1


def test_a_full_queue_still_gives_what_is_there(web: httpx.Client, redis: Redis, stores: Stores) -> None:
    ingested(stores)
    first = web.post(ASK).json()["id"]
    redis.rpush("rq:queue:forecasts", *[f"waiting-{n}" for n in range(settings().limits.max_queued)])
    assert web.post(ASK).json()["id"] == first
    refused = web.post(ASK, json={"seed": 1})
    problem(refused, 429)
    assert int(refused.headers["Retry-After"]) > 0
    assert len(redis.keys("kronos:asked:*")) == 1  # what was refused is not remembered as asked


def test_the_same_request_under_the_same_key_gets_the_same_answer_for_a_day(
    web: httpx.Client, redis: Redis, stores: Stores
) -> None:
    ingested(stores)
    key = {"Idempotency-Key": str(uuid4())}
    first = web.post(ASK, json={"seed": 1}, headers=key)
    web.delete(first.headers["Location"])  # whatever has become of it since, and were it asked for anew
    again = web.post(ASK, json={"seed": 1}, headers=key)
    assert (again.status_code, again.content) == (202, first.content)
    assert again.headers["Location"] == first.headers["Location"]
    assert stores.queue.waiting() == 0
    [kept] = redis.keys("kronos:answer:*")
    assert 86_000 < redis.ttl(kept) <= 86_400


def test_the_same_key_with_another_request_is_refused(web: httpx.Client, stores: Stores) -> None:
    ingested(stores)
    key = {"Idempotency-Key": "mine"}
    web.post(ASK, json={"seed": 1}, headers=key)
    refused = problem(web.post(ASK, json={"seed": 2}, headers=key), 422)
    assert refused["errors"][0]["field"] == "Idempotency-Key"
    assert stores.queue.waiting() == 1


def test_what_was_refused_may_be_sent_again_under_its_key(web: httpx.Client, stores: Stores) -> None:
    key = {"Idempotency-Key": "patient"}
    problem(web.post(ASK, headers=key), 422)  # nothing is ingested yet
    ingested(stores)
    assert web.post(ASK, headers=key).status_code == 202


def test_a_key_whose_first_request_is_at_work_asks_to_come_back(web: httpx.Client, stores: Stores) -> None:
    ingested(stores)
    with ThreadPoolExecutor(8) as many:
        answers = list(many.map(lambda _: web.post(ASK, headers={"Idempotency-Key": "eager"}), range(16)))
    assert {answer.status_code for answer in answers} <= {202, 409}
    for waiting in (answer for answer in answers if answer.status_code == 409):
        assert "still being answered" in problem(waiting, 409)["detail"]
        assert int(waiting.headers["Retry-After"]) > 0
    assert len({answer.content for answer in answers if answer.status_code == 202}) == 1
    assert stores.queue.waiting() == 1


@pytest.mark.parametrize("key", [b"", b"x" * 256, "\u00fc".encode("latin-1")])
def test_a_key_that_is_none_is_refused(web: httpx.Client, stores: Stores, key: bytes) -> None:
    ingested(stores)
    refused = problem(web.post(ASK, headers=[(b"Idempotency-Key", key)]), 400)
    assert refused["errors"][0]["field"] == "Idempotency-Key"
    assert stores.queue.waiting() == 0
