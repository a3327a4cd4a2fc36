"""`kronos-live backtest SYMBOL`: its klines come from a venue once, and its entries teach the live series while it has few."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result
from redis import Redis

from services.cli import main
from services.inference.calibration import FEWEST
from services.inference.scorekeeper import learn_anew
from shared.calibration_store import CalibrationStore
from shared.klines import Interval
from shared.ledger import Ledger, LedgerEntry
from tests.tiny_models import write_tiny_models
from tests.venue_server import VenueServer

H1 = Interval.H1
SMALL = ["--paths", "5", "--history", "64", "--horizon", "4", "--every", "3h"]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture
def server() -> Iterator[VenueServer]:
    with VenueServer(real=False) as server:
        yield server


@pytest.fixture(autouse=True)
def environment(server: VenueServer, redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "REDIS__URL": redis_url,
        "VENUES__BINANCE_URLS": server.url,
        "DATA__VENUES": "binance",
        "MODEL__LOCAL_DIR": str(write_tiny_models(tmp_path / "models")),
        "MODEL__ALLOW_HUB": "false",
    }.items():
        monkeypatch.setenv(f"KRONOS_{name}", value)


def backtest(
    out: Path, *more: str, symbol: str = "BTCUSDT", first: str = "2025-03-03", last: str = "2025-03-08"
) -> Result:
    command = ["backtest", symbol, "--interval", "1h", "--from", first, "--to", last, *SMALL, "--out", str(out), *more]
    return CliRunner().invoke(main, command)


def entries_of(out: Path) -> list[LedgerEntry]:
    return [LedgerEntry.model_validate_json(line) for line in (out / "ledger.jsonl").read_text().splitlines()]


def test_its_klines_are_asked_for_once_and_their_venue_is_named(server: VenueServer, tmp_path: Path) -> None:
    shown = backtest(tmp_path / "out")
    assert shown.exit_code == 0, shown.output
    assert "on BTCUSDT 1h (binance)" in shown.output
    asked = len(server.asked)
    assert asked == 2
    assert "venue_weight_used" not in shown.output
    again = backtest(tmp_path / "out", "--json")
    assert json.loads(again.stdout)["forecasts"] == 47
    assert len(server.asked) == asked
    assert {(one.venue, one.origin, one.made_for) for one in entries_of(tmp_path / "out")} == {
        ("binance", "live", "backtest")
    }


def test_the_same_klines_from_a_file_give_the_same_scores(tmp_path: Path) -> None:
    assert backtest(tmp_path / "out").exit_code == 0
    command = [
        "backtest",
        str(tmp_path / "out" / "BTCUSDT-1h.csv"),
        "--from",
        "2025-03-03",
        "--to",
        "2025-03-08",
        *SMALL,
    ]
    assert CliRunner().invoke(main, [*command, "--out", str(tmp_path / "again")]).exit_code == 0
    one, other = entries_of(tmp_path / "out"), entries_of(tmp_path / "again")
    assert [entry.scores for entry in one] == [entry.scores for entry in other]


def test_gaps_are_named_in_the_report_and_cut_no_forecast(server: VenueServer, tmp_path: Path) -> None:
    at = datetime(2025, 3, 5, 12, tzinfo=UTC)
    back = (server.now_ms() - int(at.timestamp() * 1000)) // H1.ms - 1
    server.fail("missing", times=None, back=back)
    shown = backtest(tmp_path / "out")
    assert "1 candles are missing at binance (1 from 2025-03-05 12:00:00Z)" in " ".join(shown.output.split())
    assert "1 candles are missing" in (tmp_path / "out" / "report.html").read_text()
    cut = [
        entry for entry in entries_of(tmp_path / "out") if abs(entry.last_open_time_ms / 1000 - at.timestamp()) < 3600
    ]
    assert cut == []


@pytest.mark.parametrize(
    ("more", "symbol", "code", "said"),
    [
        ((), "BTCUSTD", 3, "nearly alike are BTCUSDT"),
        ((), "btcusdt", 2, "'btcusdt' is neither a file nor a symbol"),
        ((), "klines/BTCUSDT-1h.csv", 2, "There is no file 'klines/BTCUSDT-1h.csv'"),
        (("--workers", "--jobs", "2"), "BTCUSDT", 2, "name one of them"),
        (("--workers",), "BTCUSDT", 1, "No worker is alive to spread this backtest over"),
    ],
)
def test_what_cannot_be_is_refused_in_one_sentence(
    more: tuple[str, ...], symbol: str, code: int, said: str, tmp_path: Path
) -> None:
    refused = backtest(tmp_path / "out", *more, symbol=symbol)
    assert refused.exit_code == code
    assert said in " ".join(refused.stderr.split())


def test_days_that_are_not_over_or_in_the_wrong_order_are_refused(tmp_path: Path) -> None:
    today = datetime.now(UTC)
    soon = f"{today + timedelta(days=3):%Y-%m-%d}"
    refused = backtest(tmp_path / "out", last=soon)
    assert refused.exit_code == 2
    assert re.search(rf"--to {soon} is not over yet: the last day must be one before {today:%Y-%m-%d}", refused.stderr)
    assert "lies before --from" in backtest(tmp_path / "out", last="2025-01-01").stderr


def test_a_venue_that_is_down_is_named(server: VenueServer, tmp_path: Path) -> None:
    server.fail("500", times=None)
    refused = backtest(tmp_path / "out")
    assert refused.exit_code == 1
    assert "has trouble of its own (HTTP 500)" in " ".join(refused.stderr.split())


def test_a_backtest_seeds_a_book_of_its_own_and_teaches_the_live_series(redis: Redis, tmp_path: Path) -> None:
    seeded = backtest(tmp_path / "out", "--seed-ledger")
    assert "47 of 47 entries are new in the ledger of backtests of BTCUSDT 1h" in " ".join(seeded.output.split())
    assert "0 of 47 entries are new" in backtest(tmp_path / "out", "--seed-ledger").output
    ledger, calibrations = Ledger(redis), CalibrationStore(redis)
    assert ledger.version("BTCUSDT", H1, "backtest")[0] == 47
    assert ledger.version("BTCUSDT", H1, "live")[0] == 0
    (learned,) = calibrations.load("BTCUSDT", H1, "live").values()
    assert (learned.scored, learned.from_backtest) == (47, 47)


def test_two_settings_from_the_same_moments_are_both_in_the_ledger(redis: Redis, tmp_path: Path) -> None:
    for number, temperature in enumerate(("0.6", "1")):
        shown = backtest(tmp_path / str(number), "--seed-ledger", "--temperature", temperature, last="2025-03-03")
        assert "7 of 7 entries are new" in shown.output
    assert len({one.forecaster for one in Ledger(redis).entries("BTCUSDT", H1, "backtest")}) == 2


def live_from(entries: list[LedgerEntry]) -> list[LedgerEntry]:
    return [
        one.model_copy(update={"made_for": "schedule", "forecast_id": f"live-{one.forecast_id}"}) for one in entries
    ]


def test_live_entries_take_the_place_of_a_backtests_and_none_is_of_the_same_time_or_seen_in_training(
    redis: Redis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backtest(tmp_path / "out", "--seed-ledger")
    ledger, calibrations = Ledger(redis), CalibrationStore(redis)

    def learned() -> tuple[int, int]:
        learn_anew(ledger, calibrations, "BTCUSDT", H1, "live")
        (found,) = calibrations.load("BTCUSDT", H1, "live").values()
        return found.scored, found.from_backtest

    entries = entries_of(tmp_path / "out")
    for entry in live_from(entries[40:]):
        assert ledger.add(entry)
    assert learned() == (47, 40), "seven are of the same moments as live ones"
    monkeypatch.setattr("services.inference.scorekeeper.MOST", 35)
    assert learned() == (35, 28), "the newest of them"
    seen = [
        one.model_copy(update={"seen_in_training": True, "forecast_id": f"seen-{one.forecast_id}"}) for one in entries
    ]
    for entry in seen[:40]:
        assert ledger.add(entry)
    assert learned() == (35, 28)


def test_what_the_model_was_trained_on_teaches_nothing(redis: Redis, tmp_path: Path) -> None:
    shown = backtest(tmp_path / "out", "--seed-ledger", first="2024-05-01", last="2024-05-06")
    assert "0 of 47 entries are new in the ledger of backtests of BTCUSDT 1h; 47 that the model" in " ".join(
        shown.output.split()
    )
    assert CalibrationStore(redis).load("BTCUSDT", H1, "live") == {}
    assert FEWEST < 47
