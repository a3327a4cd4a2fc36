"""What alerts keep in Redis: who tells first, how long a rule is quiet, and what waits for a channel."""

from __future__ import annotations

import pytest
from redis import Redis

from shared.alert_store import LEASE_S, AlertStore, Message, Parcel
from tests.processes import eventually

MESSAGE = Message(kind="alert", title="Something", body="It is so.")
OTHER = Message(kind="over", title="Something else", body="It is over.")
SUBJECT = "BTCUSDT:1h"


@pytest.fixture
def store(redis: Redis) -> AlertStore:
    return AlertStore(redis)


def tell(store: AlertStore, candle_ms: int, cool_down_s: int = 0, *, subject: str = SUBJECT, rule: str = "rule") -> str:
    message = MESSAGE.model_copy(update={"title": f"Something after {candle_ms}"})
    return store.tell_of_forecast(rule, subject, candle_ms, cool_down_s, message, ["a", "b"])


def test_each_forecast_is_told_once_to_each_channel_and_an_older_one_never_after_a_newer(store: AlertStore) -> None:
    assert [tell(store, candle) for candle in (1000, 1000, 900, 2000)] == ["told", "known", "known", "told"]
    for channel in ("a", "b"):
        assert [store.take(channel) is not None for _ in range(3)] == [True, True, False]


def test_while_a_rule_cools_down_it_is_quiet_of_that_series_alone(redis: Redis, store: AlertStore) -> None:
    assert [tell(store, 1000, 60), tell(store, 2000, 60)] == ["told", "cooling down"]
    assert tell(store, 2000, 60, subject="ETHUSDT:1h") == "told"
    assert tell(store, 2000, 60, rule="another") == "told"
    [quiet] = [key for key in redis.keys("kronos:alerts:quiet:rule:BTCUSDT*")]
    assert 0 < redis.ttl(quiet) <= 60
    assert tell(store, 2000, 60) == "known", "what was not told of a forecast is not told later"
    redis.pexpire(quiet, 1)
    eventually(lambda: not redis.exists(quiet), 10)
    assert tell(store, 3000, 60) == "told"


def test_what_holds_is_told_once_until_it_is_over(store: AlertStore) -> None:
    def begin(cool_down_s: int, title: str = "Something") -> str:
        message = MESSAGE.model_copy(update={"title": title})  # one that is said twice in a millisecond is sent once
        return store.begin("rule", "workers", 5000, cool_down_s, message, ["a"])

    assert store.end("rule", "workers", OTHER, ["a"]) == "known", "what nobody was told of is not over"
    assert [begin(60), begin(60)] == ["told", "known"]
    assert store.begun([("rule", "workers"), ("rule", "other")]) == {("rule", "workers"): 5000}
    assert [store.end("rule", "workers", OTHER, ["a"]), store.end("rule", "workers", OTHER, ["a"])] == ["told", "known"]
    assert store.begun([("rule", "workers")]) == {}
    assert [begin(60), begin(0, "Again")] == ["cooling down", "told"], "that it cools down is no end: later it is told"
    taken = [store.take("a") for _ in range(4)]
    assert sorted(one.message.kind for one in taken if one) == ["alert", "alert", "over"]


def test_nothing_is_asked_where_there_is_nothing_to_ask(store: AlertStore) -> None:
    assert store.begun([]) == {}


def test_who_takes_a_message_has_it_until_it_is_delivered_or_put_off(redis: Redis, store: AlertStore) -> None:
    tell(store, 1000)
    first = store.take("a")
    assert first is not None
    assert (first.message.title, first.message.body) == ("Something after 1000", MESSAGE.body)
    assert store.take("a") is None
    [(_, due_ms)] = redis.zrange("kronos:alerts:outbox:a", 0, -1, withscores=True)
    seconds, _ = redis.time()
    assert seconds + LEASE_S - 5 <= due_ms / 1000 <= seconds + LEASE_S + 1
    store.put_off("a", first)
    [(_, again_ms)] = redis.zrange("kronos:alerts:outbox:a", 0, -1, withscores=True)
    assert again_ms < due_ms
    eventually(lambda: store.take("a"), 30)
    store.delivered("a", first)
    assert redis.zcard("kronos:alerts:outbox:a") == 0
    store.put_off("a", first)
    assert redis.zcard("kronos:alerts:outbox:a") == 0, "what was delivered meanwhile does not come back"


def test_a_message_is_due_again_when_whoever_took_it_has_said_nothing_for_its_lease(
    redis: Redis, store: AlertStore
) -> None:
    tell(store, 1000)
    taken = store.take("a")
    assert taken is not None
    redis.zincrby("kronos:alerts:outbox:a", -LEASE_S * 1000, taken.raw)
    again = store.take("a")
    assert again is not None
    assert again.raw == taken.raw


@pytest.mark.parametrize(("waited_s", "pause_s"), [(0.0, 2.0), (3.0, 3.0), (100.0, 100.0), (5000.0, 300.0)])
def test_pauses_grow_with_the_wait_to_five_minutes(waited_s: float, pause_s: float) -> None:
    assert Parcel(b"", MESSAGE, waited_s).pause_s == pause_s


def test_a_message_is_given_up_after_a_day() -> None:
    assert [Parcel(b"", MESSAGE, hours * 3600).given_up for hours in (23.9, 24.1)] == [False, True]


def test_nothing_is_kept_for_ever(redis: Redis, store: AlertStore) -> None:
    tell(store, 1000, 60)
    store.begin("rule", "workers", 1, 60, MESSAGE, ["a"])
    assert all(redis.ttl(key) > 0 for key in redis.keys("kronos:alerts:*"))
    assert len(redis.keys("kronos:alerts:*")) == 6


def test_who_watches_is_known_for_a_day(redis: Redis, store: AlertStore) -> None:
    store.give_sign_of_life("here")
    [watcher] = store.watchers()
    assert (watcher.host, watcher.silent) == ("here", False)
    redis.zincrby("kronos:alerts:watchers", -90_000, "here")
    assert [one.silent for one in store.watchers()] == [True]
    redis.zincrby("kronos:alerts:watchers", -86_400_000, "here")
    store.give_sign_of_life("there")
    assert [one.host for one in store.watchers()] == ["there"]
