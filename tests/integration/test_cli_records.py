"""`kronos-live track-record`, `ledger` and `outcome` as a person types them, on ledgers as the scorekeeper writes them."""

from __future__ import annotations

import json
from io import StringIO
from pathlib import Path

import pandas as pd
import pytest
from redis import Redis

from services.cli import reading
from services.cli.reading import records_in_time
from services.cli.record_views import show_verdicts
from services.web.situation import Stores
from shared.klines import Interval
from shared.ledger import Ledger
from shared.series_record import SeriesRecord, series_record
from shared.statistics import LEVELS
from tests.integration.conftest import Run
from tests.integration.test_web_metrics import with_drift
from tests.integration.test_web_record import scored
from tests.past_forecasts import Market
from tests.web_server import forecast_stored, ingest_alive, ingested, unheard_of


def test_a_track_record_is_a_verdict_and_what_it_rests_on(run: Run, redis: Redis) -> None:
    scored(redis, 6)
    shown = run("track-record", "BTCUSDT").stdout
    for words in (
        "BTCUSDT 1h, LIVE",
        "Too few forecasts to tell whether there is any skill: 6 of 120 are scored.",
        "Too few forecasts to tell whether anything has drifted.",
        "random walk, EWMA(0.97)",
        *(f"{level} %" for level in LEVELS),
        "above the last close at the end",
        "6 forecasts scored, the first after",
    ):
        assert words in shown
    assert "not live" not in shown
    told = SeriesRecord.model_validate_json(run("track-record", "--json").stdout)
    assert told == series_record("BTCUSDT", Interval.H1, "live", Ledger(redis).entries("BTCUSDT", Interval.H1, "live"))


def test_drift_is_told_in_the_track_record_and_by_status(run: Run, redis: Redis, stores: Stores) -> None:
    ingested(stores)
    [entry] = scored_entries(redis, 1)
    with_drift(redis, entry)
    shown = run("track-record").stdout
    assert "\nDRIFT: of the newest 100 forecasts the 80 % band held " in shown
    assert "No drift: the newest 100 forecasts have a skill of " in shown
    status = run("status").stdout
    assert f"BTCUSDT 1h: {next(line for line in shown.splitlines() if 'skill' in line and 'against' in line)}" in status
    assert "BTCUSDT 1h: DRIFT: of the newest" in status
    assert "No drift" not in status
    [told] = json.loads(run("status", "--json").stdout)["track_records"]
    assert (told["symbol"], told["record"]["drift"]["drifted"]) == ("BTCUSDT", True)


def scored_entries(redis: Redis, count: int) -> list:  # type: ignore[type-arg]
    scored(redis, count)
    return Ledger(redis).entries("BTCUSDT", Interval.H1, "live")


def test_status_keeps_nobody_waiting_for_records(
    redis: Redis, stores: Stores, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    scored(redis, 2)
    ingested(stores)
    ingested(stores, symbol="ETHUSDT")
    series = stores.klines.all_statuses()
    records, left_out = records_in_time(stores.forecasts.ledger, series)
    assert ([one.entries for one in records], left_out) == ([2], [])
    monkeypatch.setattr(reading, "RECORDS_WITHIN_S", -1.0)
    records, left_out = records_in_time(stores.forecasts.ledger, series)
    assert (records, left_out) == ([], ["BTCUSDT 1h", "ETHUSDT 1h"])
    capsys.readouterr()
    show_verdicts(records, left_out)
    told = " ".join(capsys.readouterr().out.split())
    assert (
        told == "The track records of BTCUSDT 1h, ETHUSDT 1h take longer: `kronos-live track-record SYMBOL` has them."
    )


def test_several_series_and_one_of_which_nothing_is_scored(run: Run, redis: Redis, stores: Stores) -> None:
    scored(redis, 2, origin="simulated")
    ingested(stores, origin="simulated")
    ingested(stores, symbol="ETHUSDT")
    shown = run("track-record", "BTCUSDT", "ETHUSDT").stdout
    assert "BTCUSDT 1h, SIMULATED" in shown
    assert "on klines that are not live" in shown
    assert "ETHUSDT 1h: none of its live forecasts has been scored yet." in shown
    told = json.loads(run("track-record", "BTCUSDT", "ETHUSDT", "--json").stdout)
    assert [(one["symbol"], one["entries"]) for one in told] == [("BTCUSDT", 2), ("ETHUSDT", 0)]
    assert "BTCUSDT 1h (SIMULATED): Too few" in run("status").stdout


def test_a_ledger_that_a_backtest_has_filled_is_found(run: Run, redis: Redis) -> None:
    scored(redis, 2, origin="recorded")
    for command in ("track-record", "ledger"):
        done = run(command, "BTCUSDT")
        assert done.returncode == 3
        assert "that of recorded klines has 2 entries: add --origin recorded." in done.stderr
        assert "RECORDED" in run(command, "BTCUSDT", "--origin", "recorded").stdout


def test_settings_that_were_tried_are_listed_and_each_can_be_shown(run: Run, redis: Redis) -> None:
    [entry] = scored_entries(redis, 1)
    other = {"forecast_id": "other", "forecaster": "f" * 16, "temperature": 1.0, "last_open_time_ms": 0}
    assert Ledger(redis).add(entry.model_copy(update=other))
    assert "f" * 16 in run("track-record").stdout
    assert "temperature 1, " in run("track-record", "--forecaster", "f" * 16).stdout


def test_the_ledger_is_listed_the_newest_first(run: Run, redis: Redis) -> None:
    entries = scored_entries(redis, 23)
    shown = run("ledger", "BTCUSDT").stdout
    ids = [entry.forecast_id for entry in entries]
    assert [one for one in reversed(ids) if one in shown] == list(reversed(ids[-20:]))
    assert shown.index(ids[-1]) < shown.index(ids[-2])
    assert f"{entries[-1].scores.crps:.1f}" in shown
    rows = pd.read_csv(StringIO(run("ledger", "BTCUSDT", "--csv").stdout))
    assert rows["forecast_id"].tolist() == ids[::-1]
    told = json.loads(run("ledger", "--json", "--limit", "2").stdout)
    assert [one["forecast_id"] for one in told] == ids[:-3:-1]
    assert told[0]["scores"]["crps_by_step"] == entries[-1].scores.crps_by_step


def test_the_ledger_is_written_to_a_file_whole_or_not_at_all(run: Run, redis: Redis, tmp_path: Path) -> None:
    entries = scored_entries(redis, 4)
    for suffix, read in ((".csv", pd.read_csv), (".parquet", pd.read_parquet), (".json", pd.read_json)):
        file = tmp_path / f"ledger{suffix}"
        done = run("ledger", "BTCUSDT", "--out", str(file))
        assert (done.returncode, done.stdout) == (0, "")
        assert done.stderr == f"4 entries written to {file}.\n"
        assert read(file)["forecast_id"].tolist() == [entry.forecast_id for entry in reversed(entries)]
    nowhere = run("ledger", "--out", str(tmp_path / "no" / "folder.csv"))
    assert (nowhere.returncode, "cannot be written" in nowhere.stderr) == (2, True)
    assert sorted(one.name for one in tmp_path.glob("*ledger*")) == ["ledger.csv", "ledger.json", "ledger.parquet"]


def test_a_stretch_of_the_ledger(run: Run, redis: Redis) -> None:
    entries = scored_entries(redis, 5)
    second, fourth = (pd.Timestamp(entries[place].last_open_time_ms, unit="ms") for place in (1, 3))
    words = ("--from", f"{second:%Y-%m-%dT%H:%M}", "--to", f"{fourth:%Y-%m-%dT%H:%M}", "--json")
    told = json.loads(run("ledger", *words).stdout)
    assert [one["forecast_id"] for one in told] == [entries[2].forecast_id, entries[1].forecast_id]
    assert "There is no entry in the ledger of live BTCUSDT 1h" in run("ledger", "--to", "2020-01-01").stdout


def test_the_outcome_of_a_forecast_is_its_candles_and_its_scores(run: Run, redis: Redis, stores: Stores) -> None:
    entries = scored_entries(redis, 2)
    shown = run("outcome", entries[0].forecast_id).stdout
    for words in (
        "24 of 24 candles have closed since.",
        "whether the bands held it",
        "Close of step 24",
        "Scores, written",
        "not a track record",
    ):
        assert words in shown
    assert f"{entries[0].scores.crps:.1f}" in shown
    told = json.loads(run("outcome", entries[0].forecast_id, "--json").stdout)
    assert told["entry"]["forecast_id"] == told["id"] == entries[0].forecast_id
    assert len(told["candles"]) == 24
    redis.flushdb()
    market = Market(stores)
    forecast = market.forecast(7)
    market.ingest(0)
    under_way = run("outcome", forecast.id).stdout
    assert "7 of 24 candles have closed since." in under_way
    assert "It has no entry in the ledger" in under_way


def test_of_a_forecast_that_is_kept_no_longer_the_scores_are_left(run: Run, redis: Redis) -> None:
    [entry] = scored_entries(redis, 1)
    known = "BTCUSDT-1h-20250101T000000Z"
    assert Ledger(redis).add(entry.model_copy(update={"forecast_id": known}))
    shown = run("outcome", known).stdout
    assert "The forecast itself is kept no longer." in shown
    assert f"{entry.scores.crps:.1f}" in shown
    assert json.loads(run("outcome", known, "--json").stdout)["forecast_id"] == known


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("track-record", "XYZUSDT"), 3, "XYZUSDT 1h is not ingested here; these series are: BTCUSDT 1h"),
        (
            ("track-record", "--forecaster", "nobody"),
            3,
            "There is no forecaster 'nobody' in the ledger of live BTCUSDT 1h",
        ),
        (("ledger", "XYZUSDT", "--csv"), 3, "XYZUSDT 1h is not ingested here"),
        (("ledger", "--out", "ledger.xlsx"), 2, "--out is 'ledger.xlsx', but allowed is a name that ends in .csv"),
        (("ledger", "--csv", "--json"), 2, "--csv, --json and --out exclude each other"),
        (("ledger", "--from", "2025-01-02", "--to", "2025-01-02"), 2, "--to is 2025-01-02T00:00, but allowed is"),
        (("outcome", "nobody"), 3, "There is no forecast 'nobody'"),
    ],
)
def test_what_cannot_be_told_is_told_in_one_line(
    run: Run,
    redis: Redis,
    stores: Stores,
    words: tuple[str, ...],
    code: int,
    said: str,
) -> None:
    ingested(stores)
    scored(redis, 1)
    done = run(*words)
    assert (done.returncode, done.stdout) == (code, "")
    assert said in done.stderr
    assert done.stderr.startswith("kronos-live: ")
    assert len(done.stderr.strip().splitlines()) == 1


def test_a_forecast_on_its_way_has_no_outcome(run: Run, stores: Stores) -> None:
    ingested(stores)
    asked = run("forecast").stdout.strip()
    done = run("outcome", asked)
    assert (done.returncode, done.stderr) == (
        3,
        f"kronos-live: Forecast {asked} is queued, so nothing has followed it yet.\n",
    )
    forecast_stored(stores, ingested(stores), forecast_id="asked-for")
    assert "0 of 24 candles have closed since." in run("outcome", "asked-for").stdout


@pytest.mark.parametrize("command", ["track-record", "ledger", "outcome"])
def test_help_teaches(run: Run, command: str) -> None:
    shown = run(command, "--help").stdout
    assert f"  kronos-live {command}" in shown
    assert len(shown.splitlines()) > 12


def test_ingests_are_listed_beside_workers(run: Run, redis: Redis, stores: Stores) -> None:
    assert "No ingest is alive" in run("workers").stdout
    ingest = ingest_alive(redis)
    redis.sadd(ingest.executions_key, "fetch-SOLUSDT:execution")
    shown = run("workers").stdout
    assert ingest.name in shown
    assert "fetch-SOLUSDT" in shown
    ingested(stores)
    status = run("status").stdout
    assert "1 ingests alive" in status
    assert "last fetch" in status
    unheard_of(redis, ingest.name, seconds=90)
    assert "SILENT" in run("workers").stdout
    assert "0 ingests alive" in run("status").stdout
    assert [one["jobs"] for one in json.loads(run("status", "--json").stdout)["ingests"]] == [["fetch-SOLUSDT"]]
