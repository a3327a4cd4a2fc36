"""A venue that answers with nonsense is a venue that failed: nothing that it says ends ingest."""

from __future__ import annotations

import json

import httpx
import numpy as np
import pytest

from services.ingest.market import Market
from services.ingest.venue_clock import VenueClock
from services.ingest.venues.binance import Binance
from services.ingest.venues.bybit import Bybit
from shared.errors import VenueError
from shared.klines import Interval
from tests.ingest_parts import NOON_MS, Clock, ingest_settings

HOUR_MS = Interval.H1.ms
NOON = "Mon, 23 Nov 2026 12:00:05 GMT"
OPEN_MS = NOON_MS - NOON_MS % HOUR_MS - HOUR_MS
YEAR_9999_MS = 253_402_293_600_000  # 22:00 on its last day


def client(body: str, **headers: str) -> httpx.Client:
    """Every question gets this answer."""
    return httpx.Client(transport=httpx.MockTransport(lambda _: httpx.Response(200, text=body, headers=headers)))


@pytest.mark.parametrize(
    "body", ["[" * 200_000, "{", "", '"klines"', "[1, 2]", "[[]]", '[["soon", 1, 2, 3, 4, 5, 6, 7]]']
)
def test_what_is_no_table_of_klines_is_a_failure_of_the_venue(body: str) -> None:
    with pytest.raises(VenueError, match="answered with"):
        Binance("https://venue.test", client(body, Date=NOON)).fetch("BTCUSDT", Interval.H1, 10)


def test_a_number_that_no_float_can_hold_is_a_defect_of_its_row() -> None:
    body = f'[[{OPEN_MS}, {"9" * 400}, "2", "1", "1", "5", {OPEN_MS + HOUR_MS - 1}, "6", 1, "1", "1", "0"]]'
    answer = client(body, Date=NOON)
    assert np.isnan(Binance("https://venue.test", answer).fetch("BTCUSDT", Interval.H1, 10).values[0, 0])


def test_a_time_that_no_calendar_knows_is_not_taken_over() -> None:
    body = json.dumps({"retCode": 0, "time": 10**30, "result": {"list": []}})
    with pytest.raises(VenueError, match="does not tell its time"):
        Bybit("https://venue.test", client(body)).fetch("BTCUSDT", Interval.H1, 10)


def market_of(answer: httpx.Client, monkeypatch: pytest.MonkeyPatch, clock: Clock, venue_clock: VenueClock) -> Market:
    market = Market(ingest_settings("https://venue.test"), venue_clock, clock.now_ms)
    monkeypatch.setattr(market, "_venues", [Binance("https://venue.test", answer)])
    return market


def table(end_ms: int, count: int = 1) -> str:
    """Binance's rows of `count` candles of which the last opens at `end_ms`."""
    times = [end_ms - HOUR_MS * back for back in reversed(range(count))]
    return json.dumps([[at, "1", "2", "1", "1", "5", at + HOUR_MS - 1, "6", 1, "1", "1", "0"] for at in times])


@pytest.mark.parametrize(
    ("end_ms", "date", "message"),
    [
        (OPEN_MS, "Fri, 31 Dec 9999 23:59:59 GMT", "more than a day ahead of this machine's"),
        (YEAR_9999_MS, "Fri, 31 Dec 9999 23:59:59 GMT", "more than a day ahead of this machine's"),  # its candles agree
        (OPEN_MS, "Mon, 23 Nov 2026 20:00:05 GMT", "is not yet there"),
    ],
)
def test_a_time_that_cannot_be_right_does_not_set_our_clock(
    end_ms: int, date: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    venue_clock = VenueClock(clock.now_ms)
    market = market_of(client(table(end_ms, count=1000), Date=date), monkeypatch, clock, venue_clock)
    with pytest.raises(VenueError, match=message):
        market.find(None, may_simulate=False)
    assert venue_clock.now_ms() == clock.at_ms


@pytest.mark.parametrize("time", [10**30, 10**400, -1, True, "noon", None])
def test_a_server_time_that_no_calendar_knows_is_no_time(time: object) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        asked_time = request.url.path == "/api/v3/time"
        return httpx.Response(200, text=json.dumps({"serverTime": time}) if asked_time else table(OPEN_MS))

    with (
        httpx.Client(transport=httpx.MockTransport(answer)) as asked,
        pytest.raises(VenueError, match="does not tell its time"),
    ):
        Binance("https://venue.test", asked).fetch("BTCUSDT", Interval.H1, 10)


@pytest.mark.parametrize(
    "date", ["Mon, 01 Jan 99999999999999999999 00:00:00 GMT", "Mon, 01 Jan 2026 00:00:00 +99999999999999999999"]
)
def test_a_date_that_no_calendar_knows_is_none(date: str) -> None:
    body = json.dumps({"retCode": 0, "result": {"list": []}})
    with pytest.raises(VenueError, match="does not tell its time"):
        Bybit("https://venue.test", client(body, Date=date)).fetch("BTCUSDT", Interval.H1, 10)


@pytest.mark.parametrize("header", ["9" * 400, "9" * 30, "Fri, 31 Dec 9999 23:59:59 GMT"])
def test_no_venue_is_left_alone_for_longer_than_three_days(header: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def answer(_: httpx.Request) -> httpx.Response:
        return httpx.Response(429, headers={"Retry-After": header})

    clock = Clock()
    asked = httpx.Client(transport=httpx.MockTransport(answer))
    with pytest.raises(VenueError, match="left alone for") as caught:
        market_of(asked, monkeypatch, clock, VenueClock(clock.now_ms)).find(None, may_simulate=False)
    assert caught.value.retry_after_s == 3 * 86_400
