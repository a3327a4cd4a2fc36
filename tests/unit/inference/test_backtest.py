"""A backtest forecasts from the past alone, goes on where it was, and recalibrates only by what had been scored."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from redis import Redis

from services.cli import main
from services.inference.backtest.local import on_this_machine
from services.inference.backtest.origins import Origin, find_origins
from services.inference.backtest.run import LINES, read_lines, run
from services.inference.backtest.walk import walk_forward
from services.inference.training.checkpoint_folder import write_checkpoint
from services.inference.training.kline_files import Stretch
from shared.backtest_queue import Line
from shared.calibration import FEWEST
from shared.forecasts import ForecastOverrides
from shared.klines import CLOSE, Interval
from shared.ledger import Ledger, LedgerEntry
from shared.settings import Settings, load_settings
from tests.builders import START_MS, kline_values
from tests.tiny_models import write_tiny_models
from tests.unit.inference.tiny import tiny_kronos

HOUR = Interval.H1.ms
WISHES = ForecastOverrides(num_samples=5, horizon=4, history=64)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("KRONOS_MODEL__LOCAL_DIR", str(write_tiny_models(tmp_path / "models")))
    monkeypatch.setenv("KRONOS_MODEL__ALLOW_HUB", "false")
    monkeypatch.setenv("KRONOS_MODEL__DTYPE", "float32")
    return load_settings()


def stretch(values: np.ndarray) -> Stretch:
    return Stretch("BTCUSDT", START_MS + HOUR * np.arange(len(values), dtype=np.int64), values)


def origins(values: np.ndarray, count: int) -> list[Origin]:
    found = find_origins(
        [stretch(values)],
        Interval.H1,
        from_ms=START_MS + 70 * HOUR,
        until_ms=START_MS + len(values) * HOUR,
        every_ms=2 * HOUR,
        known=65,
        horizon=4,
    )
    return list(found)[:count]


def silent(done: int) -> None:
    """Nobody watches."""


def walked(values: np.ndarray, count: int, settings: Settings, folder: Path) -> tuple[list[Line], list[LedgerEntry]]:
    folder.mkdir()
    wanted = origins(values, count)
    lines = run(wanted, WISHES, settings, folder, on_this_machine(settings, 1), silent)
    return lines, walk_forward(lines, [one.known.values[:, CLOSE] for one in wanted])


def test_origins_know_what_came_before_and_nothing_else() -> None:
    values = kline_values(120)
    for number, origin in enumerate(origins(values, 10)):
        at = 70 + 2 * number
        assert origin.known.last_close_time_ms == START_MS + at * HOUR
        np.testing.assert_array_equal(origin.known.values, values[at - 65 : at])
        np.testing.assert_array_equal(origin.outcome, values[at : at + 4, CLOSE])


def test_no_origin_spans_an_outage() -> None:
    values = kline_values(200)
    whole = stretch(values)
    parts = [
        replace(whole, open_times_ms=whole.open_times_ms[rows], values=whole.values[rows])
        for rows in (slice(0, 80), slice(100, 200))
    ]
    found = find_origins(
        parts, Interval.H1, from_ms=START_MS, until_ms=START_MS + 200 * HOUR, every_ms=HOUR, known=65, horizon=4
    )
    starts = [(origin.known.last_close_time_ms - START_MS) // HOUR for origin in found]
    assert starts == [*range(65, 77), *range(165, 197)]


def test_nothing_that_came_after_an_origin_changes_its_forecast_baselines_or_calibration(
    settings: Settings, tmp_path: Path
) -> None:
    values, count = kline_values(70 + 2 * (FEWEST + 12)), FEWEST + 8
    changed = values.copy()
    last_known = 70 + 2 * (count - 1)
    changed[last_known:, :4] *= 1.5
    as_it_was, entries = walked(values, count, settings, tmp_path / "as it was")
    otherwise, other_entries = walked(changed, count, settings, tmp_path / "otherwise")
    one, other = as_it_was[-1].forecast, otherwise[-1].forecast
    assert one.close == other.close
    assert one.baselines == other.baselines
    assert one.upside == other.upside
    assert entries[-1].closes != other_entries[-1].closes
    # What the last but two knew of earlier scores, and so its recalibration, is bit for bit the same.
    assert entries[-3].scores
    assert entries[-3].scores.recalibrated
    assert other_entries[:-3] == entries[:-3]


def test_recalibration_begins_when_enough_had_been_scored_before(settings: Settings, tmp_path: Path) -> None:
    _, entries = walked(kline_values(70 + 2 * (FEWEST + 12)), FEWEST + 8, settings, tmp_path / "out")
    recalibrated = [entry.scores is not None and entry.scores.recalibrated is not None for entry in entries]
    # Two horizons of four hours overlap when an origin comes every two: the newest two have not closed yet.
    assert recalibrated == [False] * (FEWEST + 1) + [True] * 7


def test_an_interrupted_run_goes_on_and_ends_with_the_same_forecasts(settings: Settings, tmp_path: Path) -> None:
    values = kline_values(120)
    whole, _ = walked(values, 6, settings, tmp_path / "whole")
    folder = tmp_path / "interrupted"
    folder.mkdir()
    run(origins(values, 3), WISHES, settings, folder, on_this_machine(settings, 1), silent)
    with (folder / LINES).open("a") as file:
        file.write('{"forecast": {"id": "backtest-BT')  # the line that it was killed over
    heard: list[int] = []
    again = run(origins(values, 6), WISHES, settings, folder, on_this_machine(settings, 1), heard.append)
    assert heard == [3, 4, 5, 6]
    assert [line.entry for line in again] == [line.entry for line in whole]
    assert [line.forecast.id for line in read_lines(folder)] == [line.forecast.id for line in whole]


def test_several_processes_make_the_same_forecasts(settings: Settings, tmp_path: Path) -> None:
    values = kline_values(90)
    alone, _ = walked(values, 5, settings, tmp_path / "alone")
    folder = tmp_path / "together"
    folder.mkdir()
    together = run(origins(values, 5), WISHES, settings, folder, on_this_machine(settings, 2), silent)
    assert [line.entry for line in together] == [line.entry for line in alone]


def write_klines(folder: Path, count: int, start_ms: int = START_MS) -> Path:
    rows = ["open_time,open,high,low,close,volume"]
    rows += [
        ",".join([str(start_ms + hour * HOUR), *(f"{value:.6f}" for value in row[:5])])
        for hour, row in enumerate(kline_values(count))
    ]
    file = folder / "BTCUSDT-1h.csv"
    file.write_text("\n".join(rows) + "\n")
    return file


def test_the_command_writes_report_scores_and_ledger(settings: Settings, tmp_path: Path) -> None:
    file, out = write_klines(tmp_path, 24 * 12), tmp_path / "out"
    command = ["backtest", str(file), "--from", "2025-01-06", "--to", "2025-01-11", "--every", "3h", "--paths", "5"]
    command += ["--history", "64", "--horizon", "4", "--out", str(out)]
    shown = CliRunner().invoke(main, command)
    assert shown.exit_code == 0, shown.output
    assert "random walk, EWMA(0.97)" in shown.output
    assert "recalibrated holds" in shown.output
    report = (out / "report.html").read_text()
    assert "Backtest of Kronos-small on BTCUSDT 1h" in report
    assert "http" not in report.replace("http-equiv", ""), "it needs nothing beside it"
    record = json.loads(CliRunner().invoke(main, [*command, "--json"]).stdout)
    entries = [LedgerEntry.model_validate_json(line) for line in (out / "ledger.jsonl").read_text().splitlines()]
    assert record["forecasts"] == len(entries) == 47
    assert {entry.made_for for entry in entries} == {"backtest"}
    import pyarrow.parquet

    table = pyarrow.parquet.read_table(out / "scores.parquet")
    assert table.num_rows == 47 * 4
    assert np.mean(table["crps"].to_pylist()) == pytest.approx(record["crps"], abs=1e-3)


@pytest.mark.parametrize(
    ("model", "start", "seen"),
    [("Kronos-small", "2025-01-01", False), ("Kronos-small", "2024-05-01", True), ("Kronos-nano", "2024-12-20", True)],
)
def test_forecasts_of_a_time_that_the_model_may_have_seen_are_counted_and_warned_of(
    settings: Settings, tmp_path: Path, model: str, start: str, seen: bool
) -> None:
    shift = int(np.datetime64(start, "ms").astype(int)) - START_MS
    file = write_klines(tmp_path, 24 * 8, START_MS + shift)
    first, last = (str(np.datetime64(start) + days) for days in (3, 5))
    command = ["backtest", str(file), "--from", first, "--to", last, "--every", "12h", "--paths", "5", "--model", model]
    command += ["--history", "64", "--horizon", "4", "--out", str(tmp_path / "out")]
    record = json.loads(CliRunner().invoke(main, [*command, "--json"]).stdout)
    assert record["seen_in_training"] == (record["forecasts"] if seen else 0)
    warned = "may have been trained on" in CliRunner().invoke(main, command).output
    assert warned == seen


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--every", "90m"], "--every must be a multiple of 1h"),
        (["--from", "2030-01-01", "--to", "2030-02-01"], "choose other days"),
        (["--history", "3000"], "history is 3000, but allowed is"),
    ],
)
def test_what_cannot_be_is_refused_in_one_sentence(
    settings: Settings, tmp_path: Path, options: list[str], said: str
) -> None:
    command = ["backtest", str(write_klines(tmp_path, 200)), "--from", "2025-01-05", "--to", "2025-01-07", *options]
    refused = CliRunner().invoke(main, [*command, "--out", str(tmp_path / "out")])
    assert refused.exit_code == 2
    assert said in " ".join(refused.stderr.split())


def test_the_ledger_takes_what_a_backtest_scored_once_and_marked(
    settings: Settings, tmp_path: Path, redis: Redis, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KRONOS_REDIS__URL", redis_url)
    command = [
        "backtest",
        str(write_klines(tmp_path, 150)),
        "--from",
        "2025-01-05",
        "--to",
        "2025-01-06",
        "--paths",
        "5",
    ]
    command += ["--history", "64", "--horizon", "4", "--out", str(tmp_path / "out"), "--seed-ledger"]
    assert "8 of 8 entries are new" in CliRunner().invoke(main, command).output
    assert "0 of 8 entries are new" in CliRunner().invoke(main, command).output
    entries = Ledger(redis).entries("BTCUSDT", Interval.H1, "recorded")
    assert [entry.made_for for entry in entries] == ["backtest"] * 8
    assert Ledger(redis).version("BTCUSDT", Interval.H1, "live")[0] == 0


def test_a_folder_of_another_backtest_is_left_alone(settings: Settings, tmp_path: Path) -> None:
    file, out = write_klines(tmp_path, 150), tmp_path / "out"
    command = ["backtest", str(file), "--from", "2025-01-05", "--to", "2025-01-06", "--history", "64", "--horizon", "4"]
    command += ["--out", str(out)]
    assert CliRunner().invoke(main, [*command, "--paths", "5"]).exit_code == 0
    refused = CliRunner().invoke(main, [*command, "--paths", "6"])
    assert refused.exit_code == 2
    assert "holds a backtest with paths 5, not 6" in refused.stderr


def test_a_finished_backtest_is_not_shown_as_one_of_weights_that_came_later(settings: Settings, tmp_path: Path) -> None:
    file, out = write_klines(tmp_path, 150), tmp_path / "out"
    command = ["backtest", str(file), "--from", "2025-01-05", "--to", "2025-01-06", "--history", "64", "--horizon", "4"]
    command += ["--paths", "5", "--out", str(out)]
    assert CliRunner().invoke(main, command).exit_code == 0
    assert CliRunner().invoke(main, command).exit_code == 0
    write_checkpoint(tiny_kronos(7), settings.model.local_dir / "Kronos-small")
    refused = CliRunner().invoke(main, command)
    assert refused.exit_code == 2
    assert "holds forecasts of another Kronos-small" in refused.stderr
