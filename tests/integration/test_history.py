"""Long histories come from one venue, page by page, politely, and what was kept is never asked for again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from services.cli.backtest_source import History as ReadHistory
from services.cli.backtest_source import gaps_of
from services.inference.training.kline_files import read_stretches
from services.ingest.history import LONGEST_REST_S, PAUSE_S
from services.ingest.history_file import STATE, fetch_history
from shared.errors import RequestError, UnknownSeriesError, VenueError
from shared.klines import Interval
from shared.settings import Series, Settings
from tests.ingest_parts import HOUR_MS, NOON_MS, Clock, ingest_settings, nowhere
from tests.venue_server import VenueServer

BTC = Series("BTCUSDT", Interval.H1)
UNTIL_MS = NOON_MS - 12 * HOUR_MS - 5_000  # midnight
FROM_MS = UNTIL_MS - 2500 * HOUR_MS


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def server(clock: Clock) -> Iterator[VenueServer]:
    with VenueServer(clock.now_ms, real=False) as server:
        yield server


@pytest.fixture
def other(clock: Clock) -> Iterator[VenueServer]:
    with VenueServer(clock.now_ms, real=False) as server:
        yield server


def silent(done: int, words: str) -> None:
    """Nobody watches."""


def fetched(
    settings: Settings,
    folder: Path,
    clock: Clock,
    *,
    series: Series = BTC,
    from_ms: int = FROM_MS,
    until: int = UNTIL_MS,
) -> tuple[Path, str]:
    file, reached = fetch_history(settings, series, from_ms, until, folder, wait=clock.wait, tell=silent)
    return file, reached.venue


def expected(server: VenueServer, from_ms: int = FROM_MS, until_ms: int = UNTIL_MS) -> np.ndarray:
    series = server.series(*BTC)
    assert series is not None
    return np.array(series.rows(from_ms, until_ms - 1), dtype=np.float64)


def rows_of(file: Path) -> np.ndarray:
    (stretch,) = read_stretches(file, Interval.H1)
    return np.column_stack([stretch.open_times_ms, stretch.values])


@pytest.mark.parametrize(("venue", "pages"), [("binance", 3), ("okx", 9), ("bybit", 3)])
def test_every_venue_gives_its_past_without_a_seam(
    venue: str, pages: int, server: VenueServer, clock: Clock, tmp_path: Path
) -> None:
    urls = {"okx": server.url} if venue == "okx" else {"bybit": server.url} if venue == "bybit" else {}
    settings = ingest_settings(*([] if urls else [server.url]), **urls)
    heard: list[int] = []
    file, reached = fetch_history(
        settings, BTC, FROM_MS, UNTIL_MS, tmp_path, wait=clock.wait, tell=lambda done, _: heard.append(done)
    )
    assert reached.venue == venue
    np.testing.assert_allclose(rows_of(file), expected(server), rtol=1e-9, atol=1e-7)
    assert len(server.asked) == pages + 1, "one more to choose the venue by"
    assert heard == sorted(heard)
    assert heard[-1] == 2500
    assert clock.waits == [PAUSE_S] * (pages - 1)


def test_an_okx_that_answers_with_fewer_candles_than_asked_for_leaves_no_gap(
    server: VenueServer, clock: Clock, tmp_path: Path
) -> None:
    server.okx_history_page = 100
    file, _ = fetched(ingest_settings(okx=server.url), tmp_path, clock)
    assert len(rows_of(file)) == 2500


def test_a_complete_history_asks_nobody_again_and_a_longer_one_only_for_the_rest(
    server: VenueServer, clock: Clock, tmp_path: Path
) -> None:
    settings = ingest_settings(server.url)
    shorter_ms = UNTIL_MS - 300 * HOUR_MS
    fetched(settings, tmp_path, clock, until=shorter_ms)
    asked = len(server.asked)
    fetched(settings, tmp_path, clock, until=shorter_ms)
    assert len(server.asked) == asked
    file, _ = fetched(settings, tmp_path, clock)
    assert [query["startTime"] for _, query in server.asked[asked:]] == [str(shorter_ms)]
    np.testing.assert_allclose(rows_of(file), expected(server), rtol=1e-9, atol=1e-7)


def test_a_history_is_never_of_two_venues(
    server: VenueServer, other: VenueServer, clock: Clock, tmp_path: Path
) -> None:
    server.fail("500", times=1)
    settings = ingest_settings(server.url, okx=other.url)
    assert fetched(settings, tmp_path, clock, until=UNTIL_MS - 900 * HOUR_MS)[1] == "okx"
    assert fetched(settings, tmp_path, clock)[1] == "okx", "Binance is well again, but did not begin it"
    assert len(server.asked) == 1
    with pytest.raises(VenueError, match=r"are of okx, which data.venues does not name any more"):
        fetched(ingest_settings(server.url), tmp_path, clock, until=UNTIL_MS + HOUR_MS)


def test_another_address_of_the_same_venue_helps_out(
    server: VenueServer, other: VenueServer, clock: Clock, tmp_path: Path
) -> None:
    file, name = fetched(ingest_settings(nowhere(), other.url, okx=server.url), tmp_path, clock)
    assert (name, len(rows_of(file)), server.asked) == ("binance", 2500, [])


def test_a_venue_that_wants_a_rest_gets_it_and_goes_on(server: VenueServer, clock: Clock, tmp_path: Path) -> None:
    settings = ingest_settings(server.url)
    fetched(settings, tmp_path, clock, until=FROM_MS + 1000 * HOUR_MS)
    server.fail("429", retry_after=17)
    said: list[str] = []
    file, _ = fetch_history(
        settings, BTC, FROM_MS, UNTIL_MS, tmp_path, wait=clock.wait, tell=lambda _, words: said.append(words)
    )
    assert 17.0 in clock.waits
    assert any(words.startswith("asking again in 17 s: binance") for words in said)
    assert len(rows_of(file)) == 2500


@pytest.mark.parametrize(("kind", "how"), [("418", {"retry_after": 2 * int(LONGEST_REST_S)}), ("garbage", {})])
def test_a_venue_that_fails_half_way_leaves_what_came_and_the_next_run_goes_on(
    kind: str, how: dict[str, int], server: VenueServer, clock: Clock, tmp_path: Path
) -> None:
    settings = ingest_settings(server.url)
    fetched(settings, tmp_path, clock, until=FROM_MS + 1000 * HOUR_MS)
    server.fail(kind, times=None, **how)
    with pytest.raises(VenueError, match=r"are kept in '.*': the same command goes on from there") as caught:
        fetched(settings, tmp_path, clock)
    assert "binance" in caught.value.message
    server.faults.clear()
    asked = len(server.asked)
    file, _ = fetched(settings, tmp_path, clock)
    assert len(server.asked) - asked == 2
    np.testing.assert_allclose(rows_of(file), expected(server), rtol=1e-9, atol=1e-7)


def test_what_a_killed_run_had_not_noted_is_asked_for_again_and_stands_there_once(
    server: VenueServer, clock: Clock, tmp_path: Path
) -> None:
    settings = ingest_settings(server.url)
    fetched(settings, tmp_path, clock, until=FROM_MS + 1000 * HOUR_MS)
    noted = (tmp_path / STATE).read_text()
    file, _ = fetched(settings, tmp_path, clock, until=FROM_MS + 1500 * HOUR_MS)
    (tmp_path / STATE).write_text(noted)  # killed after the rows were written, before that was noted
    with file.open("a") as rows:
        rows.write("17955")
    fetched(settings, tmp_path, clock)
    np.testing.assert_allclose(rows_of(file), expected(server), rtol=1e-9, atol=1e-7)


@pytest.mark.parametrize("kind", ["missing", "conflict", "non_finite", "inconsistent"])
def test_a_gap_stays_one_and_is_named(kind: str, server: VenueServer, clock: Clock, tmp_path: Path) -> None:
    server.fail(kind, times=None, back=100)
    file, venue = fetched(ingest_settings(server.url), tmp_path, clock)
    stretches = read_stretches(file, Interval.H1)
    assert sum(len(one) for one in stretches) == 2499
    words = gaps_of(ReadHistory(stretches, venue, "live"), Interval.H1, FROM_MS, UNTIL_MS)
    assert words is not None
    assert words.startswith("1 candles are missing at binance (1 from 2026-11-19 07:00:00Z)")


def test_a_listing_that_begins_later_is_a_gap_at_the_front(server: VenueServer, clock: Clock, tmp_path: Path) -> None:
    file, venue = fetched(ingest_settings(server.url), tmp_path, clock)
    read = ReadHistory(read_stretches(file, Interval.H1), venue, "live")
    words = gaps_of(read, Interval.H1, FROM_MS - 48 * HOUR_MS, UNTIL_MS)
    assert words is not None
    assert words.startswith("48 candles are missing at binance")
    assert gaps_of(read, Interval.H1, FROM_MS, UNTIL_MS) is None


def test_a_symbol_that_no_venue_trades_is_named_with_those_written_nearly_alike(
    server: VenueServer, clock: Clock, tmp_path: Path
) -> None:
    settings = ingest_settings(server.url, okx=server.url, bybit=server.url)
    with pytest.raises(UnknownSeriesError, match=r"BTCUSTD is traded at none of the venues .*nearly alike are BTCUSDT"):
        fetched(settings, tmp_path, clock, series=Series("BTCUSTD", Interval.H1))
    assert list(tmp_path.iterdir()) == []


def test_venues_that_are_down_are_all_named(clock: Clock, tmp_path: Path) -> None:
    with pytest.raises(
        VenueError, match=r"No venue gave past klines of BTCUSDT 1h: binance .* okx .*cannot be reached"
    ):
        fetched(ingest_settings(nowhere(), okx=nowhere()), tmp_path, clock)


@pytest.mark.parametrize(
    ("series", "from_ms", "said"),
    [
        (Series("ETHUSDT", Interval.H1), FROM_MS, "holds klines of BTCUSDT 1h, not of ETHUSDT 1h"),
        (BTC, FROM_MS - HOUR_MS, "but they are wanted from"),
    ],
)
def test_a_folder_of_other_klines_is_left_alone(
    series: Series, from_ms: int, said: str, server: VenueServer, clock: Clock, tmp_path: Path
) -> None:
    settings = ingest_settings(server.url)
    fetched(settings, tmp_path, clock)
    with pytest.raises(RequestError, match=said):
        fetched(settings, tmp_path, clock, series=series, from_ms=from_ms)
