"""`kronos-live once`: a machine without network and without services ends with a forecast, its files, and nothing running."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import numpy as np
import pytest
from redis import Redis

from services.ingest.venues.simulated import simulated_values
from shared.klines import Interval
from tests.conftest import PROJECT, free_port
from tests.processes import PATIENCE, eventually, processes_of
from tests.venue_server import VenueServer

ENDS_WITHIN_S = 120 * PATIENCE  # it takes about six on an idle machine


class Machine:
    """A machine on which nothing runs, and which reaches neither a venue nor the hub unless the environment says where."""

    def __init__(self, folder: Path, **environment: str) -> None:
        self.folder = folder
        self.mark = f"ONCE_TEST_MARK={uuid4().hex}"
        nowhere = f"http://127.0.0.1:{free_port()}"
        name, value = self.mark.split("=")
        self._environment = {
            **os.environ,
            name: value,
            "HF_ENDPOINT": nowhere,
            "HF_HOME": str(folder / "hub"),
            "KRONOS_MODEL__LOCAL_DIR": str(folder / "no-models"),
            "KRONOS_VENUES__BINANCE_URLS": nowhere,
            "KRONOS_VENUES__OKX_URL": nowhere,
            "KRONOS_VENUES__BYBIT_URL": nowhere,
            "PYTHONPATH": str(PROJECT),
            **environment,
        }

    def start(self, *options: str, **environment: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "services.cli", "once", *options],
            cwd=self.folder,
            env={**self._environment, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def once(self, *options: str, **environment: str) -> tuple[int, str, str]:
        """Exit code, standard output and standard error of a whole run."""
        process = self.start(*options, **environment)
        output, errors = process.communicate(timeout=ENDS_WITHIN_S)
        return process.returncode, output, errors

    def running(self) -> list[str]:
        return processes_of(self.mark, self.folder)

    def nothing_runs(self) -> bool:
        return self.running() == []


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def read(file: Path) -> dict[str, Any]:
    return json.loads(file.read_text())


def test_without_network_it_ends_with_all_files_and_says_what_is_made_up(machine: Machine) -> None:
    code, output, errors = machine.once("--json")
    assert code == 0, errors
    assert machine.nothing_runs()
    told, record = json.loads(output), read(machine.folder / "forecast" / "forecast.json")
    assert record["labels"] == ["SIMULATED DATA", "BUNDLED MODEL"]
    assert record["id"] == told["forecast"]["id"]
    assert record["id"].endswith("-simulated")
    names = ["forecast.json", "paths.csv", "style.css", "prediction_chart.png", "index.html"]
    assert told["files"] == [f"forecast/{name}" for name in names]
    assert all((machine.folder / file).stat().st_size for file in told["files"])
    assert "SIMULATED DATA" in (machine.folder / "forecast" / "index.html").read_text()
    assert list(told["seconds"]) == ["model", "data", "forecast", "outputs"]
    rows = (machine.folder / "forecast" / "paths.csv").read_text().splitlines()
    assert rows[0] == "path,step,open_time,open,high,low,close,volume,amount"
    assert len(rows) == 1 + 30 * 24
    for venue in ("binance", "okx", "bybit"):
        assert venue in told["warnings"][1]
    for said in (
        "WARNING: SIMULATED DATA, BUNDLED MODEL.",
        "model: Kronos-nano (bundled",
        "outputs: forecast/forecast.json",
    ):
        assert said in errors
    assert "Traceback" not in errors


def test_the_same_candle_is_forecast_once_and_another_question_beside_it(machine: Machine) -> None:
    candle = {"KRONOS_DATA__INTERVAL": "1d"}  # so that none closes between the runs, but at midnight
    runs = [machine.once("--json", **candle, **more) for more in ({}, {}, {"KRONOS_SAMPLING__NUM_SAMPLES": "12"})]
    assert [code for code, *_ in runs] == [0, 0, 0]
    first, again, other = (json.loads(output)["forecast"] for _, output, _ in runs)
    assert again == first
    assert "was made before, on the same candle" in runs[1][2]
    assert (other["id"][:6], other["paths"]["shape"][0]) == ("adhoc-", 12)


def test_a_later_run_on_the_same_folder_scores_what_an_earlier_one_forecast(machine: Machine) -> None:
    recording, count = machine.folder / "klines.csv", 430
    first_ms = 1_735_689_600_000
    values = simulated_values("BTCUSDT", Interval.H1, first_ms, count)
    lines = ["open_time,open,high,low,close,volume,amount"]
    lines += [f"{first_ms + i * 3_600_000},{','.join(map(repr, map(float, row)))}" for i, row in enumerate(values)]
    recorded = {"KRONOS_DATA__VENUES": "recorded", "KRONOS_DATA__RECORDED_FILE": str(recording)}
    recording.write_text("\n".join(lines[:402]) + "\n")
    assert machine.once(**recorded)[0] == 0
    assert read(machine.folder / "forecast" / "forecast.json")["labels"] == ["RECORDED DATA", "BUNDLED MODEL"]
    recording.write_text("\n".join(lines) + "\n")
    code, _, errors = machine.once(**recorded)
    assert code == 0
    assert "scores: in the ledger now: BTCUSDT-1h-20250117T160000Z-recorded (" in errors


def test_where_nothing_may_be_made_up_each_venue_gives_its_reason(machine: Machine) -> None:
    code, output, errors = machine.once(KRONOS_DATA__ALLOW_SIMULATED="false")
    assert (code, output) == (1, "")
    assert "No venue gave klines of BTCUSDT 1h" in errors
    for venue in ("binance", "okx", "bybit"):
        assert venue in errors
    assert "Traceback" not in errors
    assert machine.nothing_runs()
    assert not (machine.folder / "forecast" / "forecast.json").exists()


def test_a_series_that_was_live_is_not_continued_by_made_up_klines(tmp_path: Path) -> None:
    with VenueServer() as venue:
        online = Machine(tmp_path, KRONOS_VENUES__BINANCE_URLS=venue.url, KRONOS_VENUES__SEARCH_SECONDS="60")
        code, _, errors = online.once()
        assert code == 0, errors
        assert read(tmp_path / "forecast" / "forecast.json")["labels"] == ["BUNDLED MODEL"]
    code, _, errors = Machine(tmp_path).once()
    assert code == 1
    assert "No venue gave klines" in errors


def test_its_paths_are_the_rows_that_the_api_gives_of_the_same_forecast(
    machine: Machine, redis_url: str, web: httpx.Client
) -> None:
    code, output, errors = machine.once("--redis", redis_url, "--json")
    assert code == 0, errors
    forecast = json.loads(output)["forecast"]
    given = web.get(f"/api/v1/forecasts/{forecast['id']}/paths.csv").raise_for_status().content
    assert (machine.folder / "forecast" / "paths.csv").read_bytes() == given
    rows = list(csv.DictReader(given.decode().splitlines()))
    count, horizon, _ = forecast["paths"]["shape"]
    assert len(rows) == count * horizon
    closes = [np.float32(row["close"]) for row in rows if int(row["step"]) == horizon]
    assert sum(close > forecast["last_close"] for close in closes) == round(forecast["upside"]["value"] * count)


def test_a_running_redis_is_used_where_it_is_told(machine: Machine, redis: Redis, redis_url: str) -> None:
    told_by: tuple[tuple[list[str], dict[str, str]], ...] = (
        (["--redis", redis_url], {}),
        ([], {"KRONOS_REDIS__URL": redis_url}),
    )
    for options, environment in told_by:
        redis.flushall()
        code, output, errors = machine.once("--json", *options, **environment)
        assert code == 0, errors
        assert redis.exists(f"kronos:forecast:{json.loads(output)['forecast']['id']}")
        assert not (machine.folder / ".kronos-live").exists()


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -9)])
def test_whatever_ends_it_nothing_is_left_running(machine: Machine, sent: signal.Signals, code: int) -> None:
    running = machine.start(KRONOS_SAMPLING__NUM_SAMPLES="10000", KRONOS_DATA__FORECAST_HORIZON="400")
    assert running.stderr is not None
    for line in running.stderr:
        if line.startswith("forecast"):
            break
    assert any("redis-server" in command for command in machine.running())
    running.send_signal(sent)
    _, errors = running.communicate(timeout=ENDS_WITHIN_S)
    assert running.returncode == code
    assert "Traceback" not in errors
    eventually(machine.nothing_runs, 30)


def test_two_runs_do_not_share_a_folder(machine: Machine) -> None:
    first = machine.start(KRONOS_SAMPLING__NUM_SAMPLES="10000", KRONOS_DATA__FORECAST_HORIZON="400")
    assert first.stderr is not None
    assert first.stderr.readline() == "model ...\n"
    code, _, errors = machine.once()
    assert code == 2
    assert "Another Kronos Live uses" in errors
    assert "--folder" in errors
    first.send_signal(signal.SIGTERM)
    first.communicate(timeout=ENDS_WITHIN_S)
    assert machine.nothing_runs()


def test_a_folder_that_cannot_be_written_to_is_named_before_any_work(machine: Machine) -> None:
    (machine.folder / "taken").write_text("a file")
    code, _, errors = machine.once("--out", "taken")
    assert code == 2
    assert "--out" in errors
    assert "model" not in errors
