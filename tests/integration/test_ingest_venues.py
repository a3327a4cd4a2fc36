"""Each venue's protocol against a real server that speaks it, and every way in which an answer can go wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest

from services.ingest.cleaning import clean
from services.ingest.venues.binance import Binance
from services.ingest.venues.bybit import Bybit
from services.ingest.venues.okx import Okx
from services.ingest.venues.venue import FetchedKlines, Venue
from shared.errors import UnknownSymbolError, VenueError
from shared.klines import Interval
from tests.ingest_parts import HOUR_MS, NOON_MS, Clock, nowhere
from tests.venue_server import SYMBOLS, VenueServer

Maker = Callable[[str, httpx.Client], Venue]
VENUES: list[Maker] = [Binance, Okx, Bybit]
BAD_ROWS = {
    "missing": ["gap"],
    "duplicate": ["duplicate"],
    "conflict": ["duplicate", "gap"],
    "disorder": ["disorder"],
    "non_finite": ["non_finite", "gap"],
    "inconsistent": ["inconsistent", "gap"],
}


@pytest.fixture
def client() -> Iterator[httpx.Client]:
    with httpx.Client(timeout=30) as client:
        yield client


def expected(server: VenueServer, symbol: str, interval: Interval, count: int) -> np.ndarray:
    series = server.series(symbol, interval)
    assert series is not None
    last = interval.open_time(server.now_ms()) - interval.ms
    return np.array(series.rows(last - (count - 1) * interval.ms, last))


def same(fetched: FetchedKlines, rows: np.ndarray) -> bool:
    # Binance writes eight decimals.
    return np.array_equal(fetched.open_times_ms, rows[:, 0]) and np.allclose(
        fetched.values, rows[:, 1:], rtol=0, atol=1e-8
    )


@pytest.mark.parametrize("venue", VENUES)
@pytest.mark.parametrize("interval", list(Interval))
def test_every_interval_comes_in_closed_candles_oldest_first(
    venue: Maker, interval: Interval, server: VenueServer, client: httpx.Client
) -> None:
    fetched = venue(server.url, client).fetch("BTCUSDT", interval, 100)
    assert fetched.origin == "live"
    assert abs(fetched.now_ms - server.now_ms()) < 30_000
    assert same(fetched, expected(server, "BTCUSDT", interval, 100))


@pytest.mark.parametrize(("venue", "pages"), [(Binance, 3), (Okx, 7), (Bybit, 3)])
def test_a_long_history_comes_in_pages_without_a_seam(
    venue: Maker, pages: int, server: VenueServer, client: httpx.Client
) -> None:
    fetched = venue(server.url, client).fetch("ETHUSDT", Interval.H1, 2000)
    assert len(server.asked) == pages
    assert same(fetched, expected(server, "ETHUSDT", Interval.H1, 2000))


def test_real_rows_are_served_where_they_exist(klines_folder: Path, server: VenueServer, client: httpx.Client) -> None:
    fetched = Binance(server.url, client).fetch("BTCUSDT", Interval.H1, 1000)
    series = server.series("BTCUSDT", Interval.H1)
    assert series is not None
    assert series.real
    assert len(clean(fetched, "BTCUSDT", Interval.H1).window) == 1000


@pytest.mark.parametrize("venue", VENUES)
def test_a_venue_with_less_history_gives_what_it_has(
    venue: Maker, clock: Clock, client: httpx.Client, tmp_path: Path
) -> None:
    rows = "\n".join(f"{NOON_MS // HOUR_MS * HOUR_MS + i * HOUR_MS},9,9,9,9,1" for i in range(900))
    (tmp_path / "young.csv").write_text("open_time,open,high,low,close,volume\n" + rows)
    with VenueServer(clock.now_ms, files={("NEWUSDT", Interval.H1): tmp_path / "young.csv"}) as server:
        fetched = venue(server.url, client).fetch("NEWUSDT", Interval.H1, 500)
    assert 100 < len(fetched.open_times_ms) < 230  # 900 candles, of which four weeks and up to one are still to come


@pytest.mark.parametrize("venue", VENUES)
def test_the_venues_own_time_decides_which_candle_is_closed(
    venue: Maker, clock: Clock, server: VenueServer, client: httpx.Client
) -> None:
    clock.at_ms = NOON_MS - 6_000  # 11:59:59: the candle of 11:00 is still open
    assert venue(server.url, client).fetch("BTCUSDT", Interval.H1, 10).open_times_ms[-1] == NOON_MS - 5000 - 2 * HOUR_MS
    clock.at_ms = NOON_MS - 5_000
    assert venue(server.url, client).fetch("BTCUSDT", Interval.H1, 10).open_times_ms[-1] == NOON_MS - 5000 - HOUR_MS


def test_binance_is_asked_for_its_time_where_no_date_header_tells_it(server: VenueServer, client: httpx.Client) -> None:
    server.fail("no_date")
    fetched = Binance(server.url, client).fetch("BTCUSDT", Interval.H1, 10)
    assert fetched.now_ms == server.now_ms()
    assert [path for path, _ in server.asked] == ["/api/v3/klines", "/api/v3/time"]


def test_okx_without_a_time_is_not_believed(server: VenueServer, client: httpx.Client) -> None:
    server.fail("no_date")
    with pytest.raises(VenueError, match="does not tell its time"):
        Okx(server.url, client).fetch("BTCUSDT", Interval.H1, 10)


@pytest.mark.parametrize("venue", VENUES)
@pytest.mark.parametrize(
    ("kind", "how", "message", "rest"),
    [
        ("429", {"retry_after": 7}, r"asked too often and wants to be left alone for 7 s \(HTTP 429\)", 7),
        ("429", {}, "left alone for 60 s", 60),
        ("418", {"retry_after": 180}, r"banned this address for 180 s \(HTTP 418\)", 180),
        ("451", {}, r"not offered in this country \(HTTP 451\)", None),
        ("403", {}, r"turned us away at its firewall \(HTTP 403\)", None),
        ("500", {}, r"has trouble of its own \(HTTP 500\)", None),
        ("cut", {}, "broke off its answer", None),
        ("garbage", {}, "not JSON", None),
        ("slow", {"seconds": 1.0}, "did not answer in time", None),
    ],
)
def test_each_fault_is_named_in_one_sentence(
    venue: Maker, kind: str, how: dict[str, int], message: str, rest: float | None, server: VenueServer
) -> None:
    server.fail(kind, **how)
    with httpx.Client(timeout=0.3) as client, pytest.raises(VenueError, match=message) as caught:
        venue(server.url, client).fetch("BTCUSDT", Interval.H1, 100)
    assert caught.value.retry_after_s == rest
    assert server.url in caught.value.message
    assert caught.value.message.endswith(".")


@pytest.mark.parametrize("venue", VENUES)
def test_an_answer_of_another_shape_is_refused(venue: Maker, server: VenueServer, client: httpx.Client) -> None:
    server.fail("shape")
    with pytest.raises(VenueError, match=r"no kline|where an object was expected"):
        venue(server.url, client).fetch("BTCUSDT", Interval.H1, 100)


@pytest.mark.parametrize("venue", VENUES)
def test_an_unknown_symbol_is_told_apart_from_a_fault(venue: Maker, server: VenueServer, client: httpx.Client) -> None:
    with pytest.raises(UnknownSymbolError, match="knows no symbol NOSUCHUSDT"):
        venue(server.url, client).fetch("NOSUCHUSDT", Interval.H1, 100)


@pytest.mark.parametrize(
    ("symbol", "instrument"),
    [("BTCUSDT", "BTC-USDT"), ("ETHBTC", "ETH-BTC"), ("BTCFDUSD", "BTC-FDUSD"), ("USDCUSDT", "USDC-USDT")],
)
def test_okx_gets_symbols_with_a_dash_before_what_they_are_paid_in(
    symbol: str, instrument: str, server: VenueServer, client: httpx.Client
) -> None:
    try:
        Okx(server.url, client).fetch(symbol, Interval.H1, 10)
    except UnknownSymbolError:
        assert symbol != "BTCUSDT"
    assert server.asked[0][1]["instId"] == instrument


def test_okx_says_what_it_cannot_split(server: VenueServer, client: httpx.Client) -> None:
    with pytest.raises(UnknownSymbolError, match="ends in no known quote"):
        Okx(server.url, client).fetch("USDT", Interval.H1, 10)
    assert not server.asked


@pytest.mark.parametrize("venue", VENUES)
@pytest.mark.parametrize(("kind", "named"), BAD_ROWS.items())
def test_bad_rows_are_found_and_named(
    venue: Maker, kind: str, named: list[str], server: VenueServer, client: httpx.Client
) -> None:
    server.fail(kind, times=None, back=50)
    found = clean(venue(server.url, client).fetch("BTCUSDT", Interval.H1, 200), "BTCUSDT", Interval.H1)
    assert [defect.kind for defect in found.defects] == named
    assert len(found.window) == (50 if "gap" in named else 200 - named.count("duplicate"))


def test_an_address_where_nobody_is_gets_named(client: httpx.Client) -> None:
    with pytest.raises(VenueError, match="cannot be reached"):
        Binance(nowhere(), client).fetch("BTCUSDT", Interval.H1, 10)


@pytest.mark.parametrize("address", ["api.binance.com", "ftp://127.0.0.1"])
def test_what_is_no_address_gets_named(address: str, client: httpx.Client) -> None:
    with pytest.raises(VenueError, match="is no web address"):
        Binance(address, client).fetch("BTCUSDT", Interval.H1, 10)


@pytest.mark.parametrize("make", VENUES)
def test_a_venue_lists_what_it_trades_now(make: Maker, server: VenueServer, client: httpx.Client) -> None:
    assert make(server.url, client).symbols() == set(SYMBOLS)


@pytest.mark.parametrize("make", VENUES)
@pytest.mark.parametrize(
    "body",
    [
        "[]",
        "{}",
        '{"symbols": [1], "data": [1], "code": "0", "retCode": 0, "result": {"list": [1]}}',
        '{"symbols": [], "data": [], "code": "0", "retCode": 0, "result": {"list": []}}',
    ],
)
def test_what_is_no_list_of_symbols_is_a_failure_of_the_venue(make: Maker, body: str) -> None:
    answer = httpx.Client(transport=httpx.MockTransport(lambda _: httpx.Response(200, text=body)))
    with pytest.raises(VenueError):
        make("https://venue.test", answer).symbols()
