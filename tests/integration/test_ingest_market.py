"""The order of venues, failover, and the time that looking for one may take."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis import Redis

from services.ingest.market import Market
from services.ingest.symbol_lists import SymbolLists
from services.ingest.venue_clock import VenueClock
from shared.errors import UnknownSymbolError, VenueError
from shared.klines import KlineWindow
from shared.settings import Settings
from shared.venue_symbols import VenueSymbols, is_untraded
from tests.ingest_parts import HOUR_MS, NOON_MS, Clock, ingest_settings, nowhere, replaced
from tests.venue_server import SYMBOLS, VenueServer

DUE_MS = NOON_MS - 5000 - HOUR_MS


@pytest.fixture
def other(clock: Clock) -> Iterator[VenueServer]:
    with VenueServer(clock.now_ms) as server:
        yield server


def market(settings: Settings, clock: Clock) -> Market:
    return Market(settings, VenueClock(clock.now_ms), clock.now_ms)


def found(settings: Settings, clock: Clock) -> KlineWindow:
    return market(settings, clock).find(DUE_MS, may_simulate=True).window


def test_the_first_venue_that_answers_gives_the_whole_window(server: VenueServer, clock: Clock) -> None:
    window = found(ingest_settings(server.url, okx=server.url, bybit=server.url), clock)
    assert (window.venue, window.origin, len(window), window.last_open_time_ms) == ("binance", "live", 1000, DUE_MS)
    assert {path for path, _ in server.asked} == {"/api/v3/klines"}


@pytest.mark.parametrize("kind", ["429", "418", "451", "403", "500", "cut", "garbage", "shape", "lag"])
def test_whatever_goes_wrong_the_mirror_then_okx_then_bybit_are_asked(
    kind: str, server: VenueServer, other: VenueServer, clock: Clock
) -> None:
    server.fail(kind, times=None)
    assert found(ingest_settings(server.url, bybit=other.url), clock).venue == "bybit"
    assert found(ingest_settings(server.url, okx=other.url, bybit=other.url), clock).venue == "okx"
    if kind not in ("429", "418"):  # a limit holds for an address of ours, whichever of theirs we ask
        assert found(ingest_settings(server.url, other.url, okx=other.url), clock).venue == "binance"


@pytest.mark.parametrize("kind", ["missing", "conflict", "non_finite", "inconsistent"])
def test_a_venue_with_a_gap_too_near_is_passed_over_for_one_without(
    kind: str, server: VenueServer, other: VenueServer, clock: Clock
) -> None:
    server.fail(kind, times=None, back=300)
    result = market(ingest_settings(server.url, bybit=other.url), clock).find(DUE_MS, may_simulate=True)
    assert (result.window.venue, len(result.window), result.problem) == ("bybit", 1000, None)


def test_a_gap_beyond_the_wanted_history_only_shortens_the_window(server: VenueServer, clock: Clock) -> None:
    server.fail("missing", times=None, back=360)
    result = market(ingest_settings(server.url), clock).find(DUE_MS, may_simulate=True)
    assert (len(result.window), result.problem) == (360, None)


def test_where_every_venue_has_a_gap_the_longest_run_is_used_and_that_is_said(
    server: VenueServer, other: VenueServer, clock: Clock
) -> None:
    server.fail("missing", times=None, back=100)
    other.fail("missing", times=None, back=200)
    result = market(ingest_settings(server.url, bybit=other.url), clock).find(DUE_MS, may_simulate=True)
    assert (result.window.venue, len(result.window)) == ("bybit", 200)
    assert result.problem is not None
    assert "shorter than wanted" in result.problem
    assert "has 100 candles without a gap, 360 are wanted (gap: 1 candles are missing" in result.problem


def test_less_than_a_model_can_read_is_no_history(server: VenueServer, clock: Clock) -> None:
    server.fail("missing", times=None, back=63)
    with pytest.raises(VenueError, match="has 63 candles without a gap"):
        found(ingest_settings(server.url), clock)


def test_an_unusable_newest_candle_is_named(server: VenueServer, clock: Clock) -> None:
    server.fail("inconsistent", times=None, back=0)
    with pytest.raises(VenueError, match=r"2026-11-23 11:00:00Z cannot be used \(inconsistent: "):
        found(ingest_settings(server.url), clock)


def test_a_venue_that_lags_by_a_candle_is_not_yet_there(server: VenueServer, clock: Clock) -> None:
    server.fail("lag", times=None, back=0)
    with pytest.raises(VenueError, match="candle of 2026-11-23 11:00:00Z is not yet there"):
        found(ingest_settings(server.url), clock)


def test_a_venue_that_asks_for_rest_gets_it_and_then_is_asked_again(server: VenueServer, clock: Clock) -> None:
    server.fail("429", retry_after=30)
    asked = market(ingest_settings(server.url, server.url), clock)
    with pytest.raises(VenueError, match="left alone for another 30 s: a limit of binance holds") as caught:
        asked.find(DUE_MS, may_simulate=False)
    assert caught.value.retry_after_s == 30
    clock.wait(29)
    with pytest.raises(VenueError):
        asked.find(DUE_MS, may_simulate=False)
    assert len(server.asked) == 1
    clock.wait(1)
    assert asked.find(DUE_MS, may_simulate=False).window.venue == "binance"


def test_a_symbol_that_no_venue_knows_is_an_error_and_never_made_up(server: VenueServer, clock: Clock) -> None:
    settings = ingest_settings(server.url, bybit=server.url, symbol="NOSUCHUSDT", allow_simulated=True)
    with pytest.raises(VenueError, match=r"binance .* knows no symbol NOSUCHUSDT.*bybit .* knows no symbol"):
        found(settings, clock)


def test_simulated_klines_come_only_where_they_are_allowed(clock: Clock) -> None:
    allowed = ingest_settings(nowhere(), allow_simulated=True)
    result = market(allowed, clock).find(None, may_simulate=True)
    assert (result.window.origin, len(result.window), result.window.last_open_time_ms) == ("simulated", 1000, DUE_MS)
    assert result.problem is not None
    assert "simulated" in result.problem
    assert "cannot be reached" in result.problem
    with pytest.raises(VenueError, match="No venue gave klines of BTCUSDT 1h"):
        market(allowed, clock).find(None, may_simulate=False)
    with pytest.raises(VenueError):
        market(ingest_settings(nowhere()), clock).find(None, may_simulate=True)


def test_a_recording_that_falls_short_is_not_replaced_by_simulated_klines(tmp_path: Path, clock: Clock) -> None:
    (tmp_path / "k.csv").write_text("open_time,open,high,low,close,volume\n1735689600000,1,1,1,1,1\n")
    settings = ingest_settings(recorded_file=str(tmp_path / "k.csv"), venues=("recorded",), allow_simulated=True)
    with pytest.raises(VenueError, match="has 1 candles without a gap"):
        found(settings, clock)


def test_a_venue_that_hangs_leaves_time_for_the_next(server: VenueServer, other: VenueServer) -> None:
    server.fail("slow", times=None, seconds=40)
    settings = replaced(ingest_settings(server.url, bybit=other.url), venues={"search_seconds": 8.0})
    began = time.monotonic()
    assert found(settings, Clock()).venue == "bybit"
    assert 4 <= time.monotonic() - began < 30


def test_looking_for_venues_that_swallow_everything_ends_within_the_search_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A listener that never accepts, and a name server that never answers, which no socket's timeout reaches."""
    monkeypatch.setattr(socket, "getaddrinfo", _look_up_that_hangs_for_names(socket.getaddrinfo))
    with socket.create_server(("127.0.0.1", 0), backlog=1) as deaf:
        silent = f"http://127.0.0.1:{deaf.getsockname()[1]}"
        settings = ingest_settings(
            "http://binance.invalid", silent, okx="http://okx.invalid", bybit=silent, allow_simulated=True
        )
        began = time.monotonic()
        window = found(replaced(settings, venues={"search_seconds": 1.0}), Clock())
    assert window.origin == "simulated"
    assert time.monotonic() - began < 20  # a name server alone holds up for 60


def _look_up_that_hangs_for_names(real):  # type: ignore[no-untyped-def]
    def look_up(host, *args, **kwargs):  # type: ignore[no-untyped-def]
        if str(host).endswith(".invalid"):
            time.sleep(60)
            raise socket.gaierror(socket.EAI_AGAIN, "no answer")
        return real(host, *args, **kwargs)

    return look_up


def test_what_venues_trade_is_listed_by_each_that_answers(server: VenueServer, clock: Clock, redis: Redis) -> None:
    there, symbols = (
        market(ingest_settings(nowhere(), server.url, okx=server.url, bybit=nowhere()), clock),
        VenueSymbols(redis),
    )
    assert there.list_symbols() == {"binance": frozenset(SYMBOLS), "okx": frozenset(SYMBOLS), "bybit": None}
    assert not SymbolLists(there, symbols, clock.wait).refresh()  # to be tried again soon
    known = symbols.known(("binance", "okx", "bybit"))
    assert set(known) == {"binance", "okx"}
    assert not is_untraded("NOSUCH", ("binance", "okx", "bybit"), known)
    assert is_untraded("NOSUCH", ("binance", "okx"), known)
    assert not is_untraded("BTCUSDT", ("binance", "okx"), known)


def test_a_venue_that_wants_to_be_left_alone_is_not_asked_what_it_trades(server: VenueServer, clock: Clock) -> None:
    there = market(ingest_settings(server.url), clock)
    server.fail("429", retry_after=60)
    with pytest.raises(VenueError):
        there.find(DUE_MS, may_simulate=False)
    assert there.list_symbols() == {"binance": None}
    assert {path for path, _ in server.asked} == {"/api/v3/klines"}


def test_a_symbol_that_no_venue_knows_is_told_from_a_venue_that_fails(server: VenueServer, clock: Clock) -> None:
    unknown = market(ingest_settings(server.url, okx=server.url, symbol="NOSUCHUSDT"), clock)
    with pytest.raises(UnknownSymbolError, match="knows no symbol"):
        unknown.find(DUE_MS, may_simulate=False)
    partly = market(ingest_settings(server.url, okx=nowhere(), symbol="NOSUCHUSDT"), clock)
    with pytest.raises(VenueError) as failed:
        partly.find(DUE_MS, may_simulate=False)
    assert not isinstance(failed.value, UnknownSymbolError)
