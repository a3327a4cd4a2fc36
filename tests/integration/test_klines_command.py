"""`kronos-live klines`: files of past candles for training and backtests, whole or not there, extended by the same venue."""

from __future__ import annotations

import gzip
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from services.cli import main
from services.cli.backtest_source import source_of
from services.inference.training.kline_files import read_stretches
from services.inference.training.kline_sources import read_sources
from shared.klines import Interval
from shared.settings import Series, load_settings
from tests.conftest import PROJECT
from tests.processes import eventually
from tests.venue_server import VenueServer

H1 = Interval.H1
NAME = "BTCUSDT-1h.csv.gz"
FIRST, LAST = "2025-01-01", "2025-04-30"  # 2880 candles: three pages of Binance
FAR_TOO_LONG_S = 600  # for a venue to ask to be left alone


@pytest.fixture
def server() -> Iterator[VenueServer]:
    with VenueServer(real=False) as server:
        yield server


@pytest.fixture(autouse=True)
def environment(server: VenueServer, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("BINANCE_URLS", "OKX_URL", "BYBIT_URL"):
        monkeypatch.setenv(f"KRONOS_VENUES__{name}", server.url)


def arguments(out: Path, *more: str, symbols: tuple[str, ...] = ("BTCUSDT",)) -> list[str]:
    return ["klines", *symbols, "--interval", "1h", "--from", FIRST, "--out", str(out), *more]


def run(out: Path, *more: str, symbols: tuple[str, ...] = ("BTCUSDT",)) -> Result:
    return CliRunner().invoke(main, arguments(out, *more, symbols=symbols))


def begin(out: Path, *more: str, largest_file: int | None = None) -> subprocess.Popen[str]:
    """The same in a process of its own; `largest_file` is how many bytes the system lets it write to one."""
    limit = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({largest_file}, {largest_file}));"
    start = "from services.cli import main; main(prog_name='kronos-live')"
    return subprocess.Popen(
        [sys.executable, "-c", start if largest_file is None else f"{limit} {start}", *arguments(out, *more)],
        cwd=PROJECT,
        env=os.environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def words(result: Result) -> str:
    return " ".join(result.output.split())


def whole(folder: Path) -> bytes:
    """What the file holds that was fetched in one go."""
    assert run(folder, "--to", LAST).exit_code == 0
    return (folder / NAME).read_bytes()


def ms(day: str) -> int:
    return int(datetime.fromisoformat(day).replace(tzinfo=UTC).timestamp() * 1000)


def told(server: VenueServer, from_ms: int, until_ms: int, symbol: str = "BTCUSDT") -> np.ndarray:
    series = server.series(symbol, H1)
    assert series is not None
    return np.array(series.rows(from_ms, until_ms - 1), dtype=np.float64)


def test_the_files_are_read_by_training_and_backtest_as_they_are(server: VenueServer, tmp_path: Path) -> None:
    result = run(tmp_path, "--to", LAST, "--json", symbols=("BTCUSDT", "ETHUSDT", "BTCUSDT"))
    assert result.exit_code == 0, result.output
    held = json.loads(result.stdout)
    assert [(one["file"], one["venue"], one["candles"], one["missing"]) for one in held] == [
        (str(tmp_path / NAME), "binance", 2880, []),
        (str(tmp_path / "ETHUSDT-1h.csv.gz"), "binance", 2880, []),
    ]
    header = gzip.decompress((tmp_path / NAME).read_bytes()).splitlines()[0]
    assert header == b"open_time,open,high,low,close,volume,amount"
    for stretch in read_sources([str(tmp_path)], H1, lambda: pytest.fail("no store is needed")):
        rows = np.column_stack([stretch.open_times_ms, stretch.values])
        expected = told(server, ms(FIRST), ms("2025-05-01"), stretch.symbol)
        np.testing.assert_allclose(rows, expected, rtol=1e-9, atol=1e-7)
    assert source_of(str(tmp_path / NAME), None, load_settings()).series == Series("BTCUSDT", H1)
    assert not list(tmp_path.glob("*.unfinished"))


def test_a_file_is_extended_up_to_the_newest_closed_candle(server: VenueServer, tmp_path: Path) -> None:
    assert run(tmp_path, "--to", "2026-06-30").exit_code == 0
    asked = len(server.asked)
    assert run(tmp_path, "--to", "2026-06-30").exit_code == 0
    assert len(server.asked) == asked, "nobody is asked for what is there"
    result = run(tmp_path)
    assert result.exit_code == 0, result.output
    assert {int(query["startTime"]) for _, query in server.asked[asked:]} >= {ms("2026-07-01")}
    (stretch,) = read_stretches(tmp_path / NAME, H1)
    end = int(stretch.open_times_ms[-1]) + H1.ms
    assert server.now_ms() - 2 * H1.ms < end <= server.now_ms()
    rows = np.column_stack([stretch.open_times_ms, stretch.values])
    np.testing.assert_allclose(rows, told(server, ms(FIRST), end), rtol=1e-9, atol=1e-7)


def test_a_candle_that_the_venue_has_yet_to_tell_is_asked_for_by_the_next_run(
    server: VenueServer, tmp_path: Path
) -> None:
    at_end = (server.now_ms() - ms("2025-05-01")) // H1.ms
    server.fail("missing", times=None, back=at_end)
    result = run(tmp_path, "--to", LAST)
    assert "1 candles are missing at binance (1 from 2025-04-30 23:00:00Z)" in words(result)
    server.faults.clear()
    assert "missing" not in words(run(tmp_path, "--to", LAST))
    assert (tmp_path / NAME).read_bytes() == whole(tmp_path / "at once")


def test_gaps_are_named(server: VenueServer, tmp_path: Path) -> None:
    server.fail("missing", times=None, back=(server.now_ms() - ms("2025-02-01")) // H1.ms - 1)
    result = run(tmp_path, "--to", LAST)
    assert result.exit_code == 0, result.output
    assert f"{tmp_path / NAME}: 2,879 candles of binance, from 2025-01-01 00:00:00Z to 2025-05-01" in words(result)
    assert "1 candles are missing at binance (1 from 2025-02-01 00:00:00Z); training makes no window" in words(result)


@pytest.mark.parametrize("before", [None, "2025-01-31"])
def test_a_venue_that_fails_half_way_leaves_what_was_there_and_the_same_command_goes_on(
    before: str | None, server: VenueServer, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    if before:
        assert run(out, "--to", before).exit_code == 0
    untouched = (out / NAME).read_bytes() if before else None
    server.fail("no_date", times=1 if before else 2)  # the first page, and before it the choice of the venue
    server.fail("418", times=None, retry_after=FAR_TOO_LONG_S)
    result = run(out, "--to", LAST)
    assert result.exit_code == 1
    assert "binance" in result.stderr
    assert "the same command goes on from there" in result.stderr
    assert ((out / NAME).read_bytes() if before else None) == untouched
    assert (out / NAME).exists() == bool(before)
    server.faults.clear()
    asked = len(server.asked)
    assert run(out, "--to", LAST).exit_code == 0
    assert int(server.asked[asked][1]["startTime"]) > ms(FIRST), "the first page is not asked for again"
    assert (out / NAME).read_bytes() == whole(tmp_path / "at once")


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_says_how_to_go_on_and_ends_with_the_same_file(
    sent: signal.Signals, server: VenueServer, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    server.fail("no_date", times=2)
    server.fail("slow", times=None, seconds=20)
    process = begin(out, "--to", LAST)
    try:
        eventually(lambda: sum("klines" in path for path, _ in server.asked) > 2 or process.poll() is not None, 120)
        process.send_signal(sent)
        _, said = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 128 + sent, said
    assert f"kronos-live: stopped; what came is kept in '{out}', and the same command goes on." in said
    assert "Traceback" not in said
    assert not (out / NAME).exists()
    server.faults.clear()
    asked = len(server.asked)
    assert run(out, "--to", LAST).exit_code == 0
    assert sum("klines" in path for path, _ in server.asked[asked:]) == 2
    assert (out / NAME).read_bytes() == whole(tmp_path / "at once")


def test_a_disk_that_is_full_is_told_and_no_candle_is_lost(tmp_path: Path) -> None:
    out = tmp_path / "out"
    process = begin(out, "--to", LAST, largest_file=100_000)  # one page and a half
    _, said = process.communicate(timeout=120)
    assert process.returncode == 1
    assert f"There is no room left for '{out}'" in said
    assert "Traceback" not in said
    assert run(out, "--to", LAST).exit_code == 0
    assert (out / NAME).read_bytes() == whole(tmp_path / "at once")


def test_of_two_that_write_one_folder_the_second_is_refused(server: VenueServer, tmp_path: Path) -> None:
    out = tmp_path / "klines"
    server.fail("429", times=None, retry_after=FAR_TOO_LONG_S)
    process = begin(out, "--to", LAST)
    try:
        eventually(lambda: server.asked, 60)
        refused = run(out, "--to", LAST, symbols=("ETHUSDT",))
        assert refused.exit_code == 2
        assert (
            f"Another `kronos-live klines` writes '{out}': wait until it is done, or choose another folder."
            in words(refused)
        )
        assert not any("ETH" in str(query) for _, query in server.asked)
        server.faults.clear()
        assert run(tmp_path / "another", "--to", LAST).exit_code == 0
    finally:
        process.kill()
        process.communicate()
    assert run(out, "--to", LAST).exit_code == 0, "who was killed holds nothing"
    assert sorted(file.name for file in out.iterdir()) == [NAME, "BTCUSDT-1h.source.json"]


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    result = run(tmp_path / "file" / "out", "--to", LAST)
    assert result.exit_code == 2
    assert "cannot be written (Not a directory): let it be written, or name another --out." in result.stderr


def without_source(out: Path) -> None:
    (out / "BTCUSDT-1h.source.json").unlink()


def with_other_rows(out: Path) -> None:
    (out / NAME).write_bytes(gzip.compress(b"open_time,open,high,low,close,volume,amount\n"))


def unpacked(out: Path) -> None:
    (out / "BTCUSDT-1h.csv").write_bytes(gzip.decompress((out / NAME).read_bytes()))


@pytest.mark.parametrize(
    ("change", "more", "said"),
    [
        (without_source, (), "no 'BTCUSDT-1h.source.json' says which venue it is of, so it is not extended"),
        (with_other_rows, (), "is not what was written here"),
        (unpacked, (), "BTCUSDT-1h.csv' is there already, and the same candles twice would be wrong"),
        (None, ("--venue", "okx"), "holds klines of binance, not of okx"),
        (None, ("--from", "2024-12-31"), "holds klines from 2025-01-01 00:00:00Z on, but they are wanted from 2024-12-31"),
    ],
)  # fmt: skip
def test_a_file_that_cannot_be_extended_is_left_as_it_is(
    change: object, more: tuple[str, ...], said: str, server: VenueServer, tmp_path: Path
) -> None:
    assert run(tmp_path, "--to", "2025-01-31").exit_code == 0
    if callable(change):
        change(tmp_path)
    before, asked = (tmp_path / NAME).read_bytes(), len(server.asked)
    result = run(tmp_path, "--to", LAST, *more)
    assert result.exit_code == 2
    assert said in words(result)
    assert "choose another folder, or move it away" in words(result)
    assert (tmp_path / NAME).read_bytes() == before
    assert len(server.asked) == asked


def test_the_venue_that_is_named_is_asked(tmp_path: Path) -> None:
    result = run(tmp_path, "--to", "2025-01-31", "--venue", "bybit", "--json")
    assert json.loads(result.stdout)[0]["venue"] == "bybit"


@pytest.mark.parametrize(
    ("more", "symbols", "code", "said"),
    [
        (("--to", LAST), ("btcusdt",), 2, "'btcusdt' is no symbol: write it as Binance does"),
        (("--to", LAST), ("BTCUSTD",), 3, "nearly alike are BTCUSDT"),
        (("--to", "2024-12-31"), ("BTCUSDT",), 2, "--from 2025-01-01 lies after --to 2024-12-31"),
        (("--from", "2999-01-01"), ("BTCUSDT",), 2, "lies after the newest closed candle"),
        (("--to", "2999-01-01"), ("BTCUSDT",), 2, "--to 2999-01-01 is not over yet"),
    ],
)
def test_what_cannot_be_is_refused_in_one_sentence(
    more: tuple[str, ...], symbols: tuple[str, ...], code: int, said: str, tmp_path: Path
) -> None:
    result = run(tmp_path / "out", *more, symbols=symbols)
    assert result.exit_code == code
    assert said in words(result)
    assert not (tmp_path / "out").exists()


def test_a_recorded_file_has_no_past_to_fetch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KRONOS_DATA__VENUES", "recorded")
    monkeypatch.setenv("KRONOS_DATA__RECORDED_FILE", "BTCUSDT-1h.csv")
    result = run(tmp_path)
    assert result.exit_code == 2
    assert "name a venue with --venue" in result.stderr
