"""Alerts as people run them: what is told, once, by one of several, and in the end, whatever is away meanwhile."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from pydantic import SecretStr
from redis import Redis

from services.alerts.standing import Overlook
from services.alerts.watch import Watch
from services.web.situation import Stores
from shared.alert_store import AlertStore
from shared.forecasts import Forecast
from shared.klines import Interval
from shared.settings import Settings
from tests.alert_receiver import SECRET, Receiver, receiver
from tests.builders import settings
from tests.conftest import free_port, redis_server
from tests.integration.conftest import Run
from tests.integration.test_web_metrics import with_drift
from tests.integration.test_web_record import scored
from tests.processes import eventually, service
from tests.web_server import (
    HOUR_MS,
    forecast_stored,
    ingested,
    newest_closed_candle,
    stores_on,
    unheard_of,
    worker_alive,
)

UPSIDE = "[{when: upside_above, level: 0.4}]"  # the builders' forecasts have 46.7 %
TITLE = "Kronos Live: BTCUSDT 1h: upside above 40 %"


@pytest.fixture
def hook() -> Iterator[Receiver]:
    with receiver() as one:
        yield one


def knobs(redis_url: str, address: str, rules: str = UPSIDE, **more: str) -> dict[str, str]:
    return {
        "KRONOS_REDIS__URL": redis_url,
        "KRONOS_ALERTS__ENABLED": "true",
        "KRONOS_ALERTS__CHANNELS": address,
        "KRONOS_ALERTS__RULES": rules,
        "KRONOS_ALERTS__HOLDS_FOR": "0",
        **more,
    }


def stored(stores: Stores, hours_ago: int = 0) -> Forecast:
    """The schedule's forecast after a candle, as a worker stores it."""
    return forecast_stored(stores, ingested(stores, last_open_time_ms=newest_closed_candle() - hours_ago * HOUR_MS))


def test_a_forecast_is_told_once_and_a_restart_forgets_nothing(
    redis_url: str, stores: Stores, hook: Receiver, tmp_path: Path
) -> None:
    environment = knobs(redis_url, hook.address, KRONOS_ALERTS__PAGE_URL="https://kronos.example.org")
    with service("alerts run", environment, tmp_path) as watching:
        watching.wait_for_log("alerts_started")
        made = stored(stores, hours_ago=1)
        eventually(lambda: hook.received, 60, watching.log)
        assert hook.received[0]["message"].endswith(f"https://kronos.example.org/forecasts/{made.id}")
        assert watching.end() == 0
    with service("alerts run", environment, tmp_path) as again:
        again.wait_for_log("alerts_started")
        stored(stores)
        again.wait_for_log("cooling down")
        assert again.end() == 0
    [title] = hook.titles
    assert title.endswith("BTCUSDT 1h: upside above 40 %")  # stale, unless the hour has just begun
    assert SECRET not in watching.log() + again.log()


def test_what_does_not_meet_the_rule_is_not_told(
    redis_url: str, stores: Stores, hook: Receiver, tmp_path: Path
) -> None:
    rules = "[{when: upside_above, level: 0.5, cool_down: 0}, {when: upside_below, level: 0.5, cool_down: 0}]"
    with service("alerts run", knobs(redis_url, hook.address, rules), tmp_path) as watching:
        stored(stores)
        eventually(lambda: hook.received, 60, watching.log)
        watching.end()
    assert hook.titles == ["Kronos Live: BTCUSDT 1h: upside below 50 %"]


def test_of_two_that_watch_one_tells(redis_url: str, stores: Stores, hook: Receiver, tmp_path: Path) -> None:
    environment = knobs(redis_url, hook.address, KRONOS_ALERTS__COOL_DOWN="0")
    with (
        service("alerts run", environment, tmp_path) as first,
        service("alerts run", environment, tmp_path) as second,
    ):
        for watching in (first, second):
            watching.wait_for_log("alerts_started")
        for place, hours_ago in enumerate((4, 3, 2, 1, 0), start=1):
            stored(stores, hours_ago)
            eventually(lambda place=place: len(hook.received) >= place, 60, first.log)  # type: ignore[misc]
        assert [first.end(), second.end()] == [0, 0]
    assert len({one["message"] for one in hook.received}) == len(hook.received) == 5


def test_a_message_outlives_a_receiver_that_is_down(
    redis_url: str, stores: Stores, hook: Receiver, tmp_path: Path
) -> None:
    """And the channel beside it is not held up."""
    away = Receiver(free_port())
    addresses = f"{away.address}, {hook.address}"
    with service("alerts run", knobs(redis_url, addresses), tmp_path) as watching:
        stored(stores)
        eventually(lambda: hook.titles == [TITLE], 60, watching.log)
        watching.wait_for_log("alert_not_delivered")
        with receiver(away.port) as back:
            back.status = 500
            watching.wait_for_log("it answered with HTTP status 500")
            back.status = 200
            eventually(lambda: back.received, 90, watching.log)
            assert watching.end() == 0
            assert back.titles == [TITLE]
    assert hook.titles == [TITLE]
    assert SECRET not in watching.log()


def test_it_ends_when_it_is_told_to_while_a_channel_keeps_it_waiting(
    redis_url: str, redis: Redis, stores: Stores, tmp_path: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        with service("alerts run", knobs(redis_url, f"json://127.0.0.1:{port}/{SECRET}"), tmp_path) as watching:
            stored(stores)
            silent.settimeout(60)
            caller, _ = silent.accept()
            assert watching.end(seconds=60) == 0
            caller.close()
    assert redis.zcard(f"kronos:alerts:outbox:json://127.0.0.1:{port}") == 1, "it is still to be delivered"
    assert SECRET not in watching.log()


def test_what_was_not_delivered_is_delivered_by_whoever_watches_next(
    redis_url: str, redis: Redis, stores: Stores, tmp_path: Path
) -> None:
    away = Receiver(free_port())
    environment = knobs(redis_url, away.address)
    with service("alerts run", environment, tmp_path) as watching:
        stored(stores)
        watching.wait_for_log("alert_not_delivered")
        assert watching.end() == 0
    with receiver(away.port) as back, service("alerts run", environment, tmp_path) as again:
        eventually(lambda: back.titles == [TITLE], 120, again.log)
        eventually(lambda: redis.zcard(f"kronos:alerts:outbox:json://127.0.0.1:{away.port}") == 0, 30, again.log)


def test_a_worker_that_goes_is_told_and_that_it_is_back(
    redis_url: str, redis: Redis, hook: Receiver, tmp_path: Path
) -> None:
    worker = worker_alive(redis)
    rules = "[{when: worker_gone}, {when: simulated_data}]"
    with service("alerts run", knobs(redis_url, hook.address, rules), tmp_path) as watching:
        watching.wait_for_log("alerts_started")
        unheard_of(redis, worker.name, seconds=90)
        eventually(lambda: len(hook.received) == 1, 60, watching.log)
        unheard_of(redis, worker.name, seconds=0)
        eventually(lambda: len(hook.received) == 2, 60, watching.log)
        assert watching.end() == 0
    assert hook.titles == ["Kronos Live: worker gone", "Kronos Live: over: worker gone"]
    assert "1 worker gave a sign of life in the last minute" in hook.received[1]["message"]


def test_it_waits_for_a_redis_that_is_away(hook: Receiver, tmp_path: Path) -> None:
    port = free_port()
    with service("alerts run", knobs(f"redis://127.0.0.1:{port}/0", hook.address), tmp_path) as watching:
        watching.wait_for_log("alerts_cannot_look")
        with redis_server(tmp_path, port=port), Redis(port=port) as redis:
            stored(stores_on(redis))
            eventually(lambda: hook.titles == [TITLE], 60, watching.log)
            watching.wait_for_log("alerts_can_look_again")
            assert watching.end() == 0
    assert watching.log().count("alerts_cannot_look") == 1


@dataclass
class Desk:
    """A watch of this process on the tests' Redis, with a clock that is turned by hand."""

    watch: Watch
    store: AlertStore
    clock: list[float]

    def told(self) -> list[str]:
        found = []
        while (parcel := self.store.take("hook")) is not None:
            self.store.delivered("hook", parcel)
            found.append(parcel.message.title)
        return found


def desk(redis_url: str, now_ms: int, **alerts: object) -> Desk:
    told = settings()
    changed = told.alerts.model_validate({**told.alerts.model_dump(), **alerts})
    where = told.redis.model_copy(update={"url": SecretStr(redis_url)})
    configured: Settings = told.model_copy(update={"alerts": changed, "redis": where})
    overlook, clock = Overlook(configured), [1000.0]
    store = AlertStore(overlook.redis)
    return Desk(Watch(configured, overlook, store, ["hook"], lambda: now_ms, lambda: clock[0]), store, clock)


def test_something_of_the_system_is_told_when_it_has_been_so_for_a_while_and_once(redis_url: str, redis: Redis) -> None:
    watching = desk(redis_url, 0, rules=[{"when": "worker_gone"}], holds_for=60)
    for _ in range(2):
        watching.watch.look_at_system()
        watching.clock[0] += 59
        assert watching.told() == []
        worker_alive(redis)
        watching.watch.look_at_system()  # it was there in between, so the time begins anew
        redis.flushall()
    for seconds, told in ((0, []), (59, []), (1, ["Kronos Live: worker gone"]), (100, [])):
        watching.clock[0] += seconds
        watching.watch.look_at_system()
        assert watching.told() == told
    worker_alive(redis)
    for told in (["Kronos Live: over: worker gone"], []):
        watching.watch.look_at_system()
        assert watching.told() == told


def test_a_first_forecast_is_waited_for_longer(redis_url: str, stores: Stores) -> None:
    ingested(stores)
    now_ms = newest_closed_candle() + HOUR_MS + 10_000
    watching = desk(redis_url, now_ms, rules=[{"when": "missed_update"}], holds_for=0)
    for seconds, told in ((0, []), (899, []), (1, ["Kronos Live: BTCUSDT 1h: missed update"])):
        watching.clock[0] += seconds
        watching.watch.look_at_system()
        assert watching.told() == told


def test_rules_that_name_no_series_are_asked_of_each_and_others_of_theirs(redis_url: str, stores: Stores) -> None:
    for symbol in ("BTCUSDT", "ETHUSDT"):
        forecast_stored(stores, ingested(stores, symbol=symbol))
    rules = [{"when": "upside_above", "level": 0.4}, {"when": "upside_below", "level": 0.5, "series": "ETHUSDT:1h"}]
    watching = desk(redis_url, newest_closed_candle() + HOUR_MS, rules=rules)
    watching.watch.look_at_forecasts()
    assert watching.told() == [TITLE, "Kronos Live: ETHUSDT 1h: upside below 50 %"]


def test_what_a_person_asked_for_is_not_told(redis_url: str, stores: Stores) -> None:
    window = ingested(stores)
    forecast_stored(stores, window, forecast_id="adhoc-1")
    watching = desk(redis_url, newest_closed_candle() + HOUR_MS, rules=[{"when": "upside_above", "level": 0.4}])
    watching.watch.look_at_forecasts()
    assert watching.told() == []
    forecast_stored(stores, window)
    watching.watch.look_at_forecasts()
    assert watching.told() == [TITLE]


def test_a_forecast_of_simulated_candles_says_so(redis_url: str, stores: Stores) -> None:
    forecast_stored(stores, ingested(stores, origin="simulated"))
    rules = [{"when": "upside_above", "level": 0.4}, {"when": "simulated_data"}]
    watching = desk(redis_url, newest_closed_candle() + HOUR_MS, rules=rules, holds_for=0)
    watching.watch.look_at_forecasts()
    watching.watch.look_at_system()
    assert watching.told() == [
        "Kronos Live: [SIMULATED DATA] BTCUSDT 1h: upside above 40 %",
        "Kronos Live: BTCUSDT 1h: simulated data",
    ]


def test_coverage_drift_is_read_from_the_ledger_as_it_grows(redis_url: str, redis: Redis, stores: Stores) -> None:
    history = scored(redis)
    [entry, *_] = stores.forecasts.ledger.entries("BTCUSDT", Interval.H1, "live", newest=1)
    ingested(stores, last_open_time_ms=history.last_open_time_ms)
    watching = desk(redis_url, newest_closed_candle() + HOUR_MS, rules=[{"when": "coverage_drift"}], holds_for=0)
    watching.watch.look_at_system()
    assert watching.told() == []
    with_drift(redis, entry)
    watching.watch.look_at_system()
    assert watching.told() == ["Kronos Live: BTCUSDT 1h: coverage drift"]


def test_check_says_what_would_fire_and_sends_nothing(run: Run, redis: Redis, stores: Stores, hook: Receiver) -> None:
    stored(stores)
    rules = "[{when: upside_above, level: 0.4}, {when: upside_below, level: 0.4, name: Down}, {when: worker_gone}]"
    words = {"KRONOS_ALERTS__RULES": rules, "KRONOS_ALERTS__CHANNELS": hook.address}
    said = run("alerts", "check", **words)
    assert said.returncode == 0, said.stderr
    above, below, gone = said.stdout.splitlines()
    assert above.startswith("fires upside above 40 %: BTCUSDT 1h has 46.7 % upside probability (14 of 30 paths")
    assert below.startswith("quiet Down: BTCUSDT 1h has 46.7 % upside probability")
    assert (
        gone
        == "fires worker gone: No worker gave a sign of life in the last minute; there should be 1 worker at least."
    )
    told = json.loads(run("alerts", "check", "--json", **words).stdout)
    assert [(one["when"], one["series"], one["holds"]) for one in told] == [
        ("upside_above", "BTCUSDT 1h", True),
        ("upside_below", "BTCUSDT 1h", False),
        ("worker_gone", None, True),
    ]
    assert (hook.received, redis.keys("kronos:alerts:*")) == ([], [])


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"KRONOS_ALERTS__ENABLED": "false"}, "alerts.enabled (KRONOS_ALERTS__ENABLED) is false"),
        ({"KRONOS_ALERTS__RULES": "[]"}, "alerts.rules is empty"),
        ({"KRONOS_ALERTS__CHANNELS": ""}, "alerts.channels is empty"),
        (
            {"KRONOS_ALERTS__CHANNELS": f"jsonx://{SECRET}"},
            "alerts.channels[0] is an address that begins with jsonx://",
        ),
        ({"KRONOS_ALERTS__CHANNEL_FILE": "absent"}, "alerts.channel_file (KRONOS_ALERTS__CHANNEL_FILE) is 'absent'"),
    ],
)
def test_it_does_not_start_with_nothing_to_do(
    run: Run, redis_url: str, hook: Receiver, changed: dict[str, str], said: str
) -> None:
    tried = run("alerts", "run", **{**knobs(redis_url, hook.address), **changed})
    assert (tried.returncode, said in tried.stderr) == (2, True), tried.stderr
    assert SECRET not in tried.stderr
