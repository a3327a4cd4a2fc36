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


def test_a_time_that_its_own_candles_belie_does_not_set_our_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    row = [OPEN_MS, "1", "2", "1", "1", "5", OPEN_MS + HOUR_MS - 1, "6", 1, "1", "1", "0"]
    answer = client(json.dumps([row]), Date="Fri, 31 Dec 9999 23:59:59 GMT")
    clock = Clock()
    venue_clock = VenueClock(clock.now_ms)
    market = Market(ingest_settings("https://venue.test"), venue_clock, clock.now_ms)
    monkeypatch.setattr(market, "_venues", [Binance("https://venue.test", answer)])
    with pytest.raises(VenueError, match="is not yet there"):
        market.find(None, may_simulate=False)
    assert venue_clock.now_ms() == clock.at_ms
