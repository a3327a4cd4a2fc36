"""`kronos-live` as a person types it, against a real Redis and a real worker."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from redis import Redis

from services.cli.tables import show_forecast
from services.web.situation import Stores
from shared.forecasts import Band, StepStatistics
from tests.builders import START_MS, finished_forecast, forecast_request, kline_window, settings
from tests.integration.conftest import Run
from tests.integration.test_own_klines import as_csv, candles
from tests.processes import eventually, service
from tests.venue_server import VenueServer
from tests.web_server import forecast_stored, ingest_alive, ingested, unheard_of, worker_alive


def test_forecast_waits_and_prints_the_whole_record_as_json(
    run: Run, stores: Stores, environment: dict[str, str], tmp_path: Path
) -> None:
    window = ingested(stores)
    with service("worker", environment, tmp_path):
        done = run("forecast", "--symbol", "BTCUSDT", "--horizon", "24", "--seed", "3", "--wait", "--json")
    assert done.returncode == 0, done.stderr
    record = json.loads(done.stdout)
    assert record["request"]["seed"] == 3
    assert record["provenance"]["max_context"] == settings().model.max_context
    assert len(record["close"]["median"]) == 24
    assert record["provenance"]["snapshot_sha256"] == window.content_hash()
    assert stores.forecasts.exists(record["id"])


def test_forecast_shows_a_table_with_errors_and_provenance(
    run: Run, stores: Stores, environment: dict[str, str], tmp_path: Path
) -> None:
    ingested(stores, origin="simulated")
    with service("worker", environment, tmp_path):
        done = run("forecast", "--horizon", "3", "--wait")
    assert done.returncode == 0, done.stderr
    for words in ("range of the paths", "80 % band", "Upside:", "of 30 paths", "SIMULATED", "Not investment advice"):
        assert words in done.stdout


def test_a_cheap_coin_keeps_its_digits_and_one_step_says_that_it_has_no_spread(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    forecast, _ = finished_forecast("id", kline_window(), forecast_request(horizon=1))
    bands = [Band(level=level, kind="quantile", lower=[1.1e-5], upper=[1.3e-5]) for level in (50, 80, 95)]
    one = [1.234e-5]
    close = StepStatistics(mean=one, median=one, minimum=one, maximum=one, bands=bands)
    said = {"close": close, "last_close": 1.2e-5, "volatility_amplification": None, "returns_compared": 1}
    show_forecast(forecast.model_copy(update=said))
    shown = capsys.readouterr().out
    for words in ("0.00001234", "0.00001100 to 0.00001300", "Last close 0.00001200", "amplification: needs two steps"):
        assert words in shown


def test_several_symbols_become_a_panel_told_as_one_list(
    run: Run, stores: Stores, environment: dict[str, str], tmp_path: Path
) -> None:
    words = ["forecast", "--horizon", "3"]
    for seed, symbol in enumerate(("BTCUSDT", "ETHUSDT")):
        ingested(stores, symbol=symbol, seed=seed)
        words += ["--symbol", symbol]
    ids = run(*words).stdout.split()
    assert [stores.queue.status(one).state for one in ids] == ["queued", "queued"]
    again = run(*words, "--json")
    assert [(one["id"], one["position"]) for one in json.loads(again.stdout)] == [(ids[0], 0), (ids[1], 1)]
    assert again.stderr.count("was asked for before on this candle") == 2
    with service("worker", environment, tmp_path):
        told = json.loads(run(*words, "--wait", "--json").stdout)
        shown = run(*words, "--wait").stdout
    assert [one["request"]["symbol"] for one in told] == ["BTCUSDT", "ETHUSDT"]
    assert shown.index("BTCUSDT 1h, 3 candles ahead") < shown.index("ETHUSDT 1h, 3 candles ahead")


def test_of_a_panel_what_failed_is_told_after_what_was_made(
    run: Run, stores: Stores, environment: dict[str, str], tmp_path: Path
) -> None:
    ingested(stores)
    ingested(stores, symbol="NEWUSDT", candles=30)
    with service("worker", environment, tmp_path):
        done = run("forecast", "--symbol", "NEWUSDT", "--symbol", "BTCUSDT", "--horizon", "3", "--wait", "--json")
    assert done.returncode == 1
    assert [one["request"]["symbol"] for one in json.loads(done.stdout)] == ["BTCUSDT"]
    assert "failed: Only 30 candles of NEWUSDT 1h" in done.stderr.strip().splitlines()[-1]


def test_forecast_without_waiting_prints_the_id(run: Run, stores: Stores) -> None:
    ingested(stores)
    done = run("forecast")
    assert stores.queue.status(done.stdout.strip()).state == "queued"


def test_status_shows_series_queue_and_workers(run: Run, stores: Stores) -> None:
    ingested(stores, state="stale", problem="no venue answered")
    run("forecast")
    shown = run("status").stdout
    for words in ("0 workers alive, 1 forecasts waiting", "BTCUSDT 1h", "STALE", "no venue answered"):
        assert words in shown
    told = json.loads(run("status", "--json").stdout)
    assert (told["waiting"], told["workers"], told["series"][0]["state"]) == (1, 0, "stale")


def test_status_calls_a_series_stale_that_ingest_has_left(run: Run, stores: Stores) -> None:
    ingested(stores, last_open_time_ms=START_MS)
    shown = run("status").stdout
    for words in ("STALE", "overdue since 2025-01-01 02:00:05Z", "Ingest has not reported since 2025-01-01 01:00:05Z"):
        assert words in shown
    assert "LIVE" not in shown
    assert json.loads(run("status", "--json").stdout)["series"][0]["state"] == "stale"
    refused = run("forecast")
    assert refused.returncode == 2
    assert "BTCUSDT 1h is stale" in refused.stderr


def test_of_many_series_the_status_shows_first_what_is_not_well(run: Run, stores: Stores) -> None:
    for place in range(24):
        ingested(stores, symbol=f"C{place:02}USDT", candles=64)
    ingested(stores, symbol="ZZZUSDT", candles=64, state="stale", problem="No venue answers.")
    shown = run("status").stdout
    assert "ZZZUSDT 1h: No venue answers." in shown
    assert shown.count("LIVE") == 19
    assert shown.splitlines()[-1] == "5 more series, 5 of them well: `kronos-live status --all` shows them too."
    whole = run("status", "--all").stdout
    assert (whole.count("LIVE"), "more series" in whole) == (24, False)
    assert len(json.loads(run("status", "--json").stdout)["series"]) == 25


@pytest.mark.parametrize(
    ("words", "knobs", "code", "expected"),
    [
        (("forecast", "--horizon", "0"), {}, 2, "horizon is 0, but allowed is a whole number of candles from 1 to 448"),
        (("forecast", "--temperature", "-1"), {}, 2, "temperature is -1.0, but allowed is a number above 0"),
        (("forecast", "--model", "GPT"), {}, 2, "Kronos-base"),
        (("forecast", "--symbol", "XYZUSDT"), {}, 3, "these series are: BTCUSDT 1h"),
        (("forecast", "--symbol", "BTCUSDT", "--symbol", "BTCUSDT"), {}, 2, "symbols names BTCUSDT twice"),
        (("forecast", "--wait", "--timeout", "1"), {}, 1, "0 workers are alive"),
        (("worker",), {"KRONOS_MODEL__DEVICE": "gpu"}, 2, "model.device (KRONOS_MODEL__DEVICE) is 'gpu'"),
        (("web",), {"KRONOS_WEB__PORT": "x"}, 2, "web.port (KRONOS_WEB__PORT) is 'x'"),
        (("status",), {"KRONOS_REDIS__URL": "redis://127.0.0.1:1/0"}, 5, "Redis cannot be used"),
        (("status",), {"KRONOS_REDIS__URL": "http://nowhere"}, 2, "redis.url (KRONOS_REDIS__URL) is 'http://nowhere'"),
    ],
)
def test_what_cannot_be_done_is_told_in_one_line(
    run: Run, stores: Stores, words: tuple[str, ...], knobs: dict[str, str], code: int, expected: str
) -> None:
    ingested(stores)
    done = run(*words, **knobs)
    assert done.returncode == code
    last_line = done.stderr.strip().splitlines()[-1]
    assert last_line.startswith("kronos-live: ")
    assert expected in last_line
    assert "Traceback" not in done.stderr


def test_status_says_simulated_in_full_however_narrow_the_terminal_is(run: Run, stores: Stores) -> None:
    ingested(stores, origin="simulated")
    assert "SIMULATED" in run("status", COLUMNS="60").stdout


def test_help_teaches(run: Run) -> None:
    for words in ((), ("forecast",), ("worker",), ("demo",)):
        shown = run(*words, "--help")
        assert shown.returncode == 0
        assert "Usage: " in shown.stdout
    assert "kronos-live forecast --symbol BTCUSDT --horizon 24 --wait" in run("forecast", "--help").stdout


def test_forecasts_are_listed_the_newest_first_with_what_they_are(run: Run, stores: Stores) -> None:
    window = ingested(stores, origin="simulated")
    for forecast_id in ("first", "second"):
        forecast_stored(stores, window, forecast_id=forecast_id)
    shown = run("list", COLUMNS="200").stdout
    assert shown.index("second") < shown.index("first")
    assert "SIMULATED" in shown
    assert [one["id"] for one in json.loads(run("list", "--json", "--limit", "1").stdout)] == ["second"]
    assert run("list", "--symbol", "XYZUSDT").returncode == 3


def test_a_series_without_forecasts_is_told_as_that(run: Run, stores: Stores) -> None:
    ingested(stores)
    assert run("list").stdout == "There is no forecast of BTCUSDT 1h yet.\n"


def test_a_forecast_is_shown_by_its_id_and_one_on_its_way_as_it_stands(run: Run, stores: Stores) -> None:
    forecast_stored(stores, ingested(stores), forecast_id="made")
    waiting = run("forecast", "--horizon", "3").stdout.strip()
    assert "made" in run("show", "made").stdout
    assert json.loads(run("show", "made", "--json").stdout)["id"] == "made"
    assert f"{waiting}: queued, 0 before it in the queue" in run("show", waiting, COLUMNS="200").stdout
    assert json.loads(run("show", waiting, "--json").stdout)["state"] == "queued"
    nobody = run("show", "nobody")
    assert (nobody.returncode, "nobody" in nobody.stderr) == (3, True)


def test_the_page_of_a_forecast_has_an_address(run: Run, stores: Stores) -> None:
    forecast_stored(stores, ingested(stores), forecast_id="made")
    assert run("open", "--print").stdout == "http://127.0.0.1:8000/\n"
    shown = run("open", "made", "--print", KRONOS_WEB__HOST="0.0.0.0", KRONOS_WEB__PORT="8123")  # noqa: S104
    assert shown.stdout == "http://127.0.0.1:8123/forecasts/made\n"
    assert run("open", "nobody", "--print").returncode == 3


def test_workers_are_listed_with_what_they_compute_and_on_what(
    run: Run, stores: Stores, environment: dict[str, str], tmp_path: Path
) -> None:
    ingested(stores)
    with service("worker", environment, tmp_path) as worker:
        worker.wait_for_log("worker_ready")
        asked = run("forecast", "--num-samples", "1000", "--horizon", "400").stdout.strip()
        eventually(lambda: stores.queue.status(asked).progress, 30, worker.log)
        shown, told = run("workers"), run("workers", "--json")
    assert (shown.returncode, told.returncode) == (0, 0), shown.stderr + told.stderr
    [one] = json.loads(told.stdout)
    assert (one["process"], one["jobs"], one["state"]) == (worker.process.pid, [asked], "busy")
    for words in (one["name"], "busy", asked, "Kronos-small (local)", "cpu, ", "0, 0", "0:00:0", one["since"][:10]):
        assert words in shown.stdout


def test_where_no_worker_is_there_the_exit_code_says_so(run: Run, redis: Redis) -> None:
    nobody = run("workers", "--json")
    assert (nobody.returncode, nobody.stdout) == (1, "[]\n")
    assert nobody.stderr == "kronos-live: No worker is alive; start one with `kronos-live worker`.\n"
    killed = worker_alive(redis)
    assert run("workers").returncode == 0
    assert "1 workers alive" in run("status").stdout
    unheard_of(redis, killed.name, seconds=90)
    silent = run("workers")
    assert silent.returncode == 1
    assert "No worker has given a sign of life for a minute" in silent.stderr
    for words in (killed.name, "SILENT", "0:01:3"):
        assert words in silent.stdout
    assert "0 workers alive" in run("status").stdout
    assert run("workers", KRONOS_REDIS__URL="redis://127.0.0.1:1/0").returncode == 5


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_learns_to_complete(run: Run, shell: str) -> None:
    script = run("completion", shell).stdout
    assert "_KRONOS_LIVE_COMPLETE" in script
    completed = run(_KRONOS_LIVE_COMPLETE="bash_complete", COMP_WORDS="kronos-live sh", COMP_CWORD="1").stdout
    assert "show" in completed
    completed = run(_KRONOS_LIVE_COMPLETE="bash_complete", COMP_WORDS="kronos-live wor", COMP_CWORD="1").stdout
    assert completed.split() == ["plain,worker", "plain,workers"]


def test_cancel_takes_forecasts_out_of_the_queue_and_says_so(run: Run, stores: Stores) -> None:
    window = ingested(stores)
    ids = [run("forecast", "--seed", str(seed)).stdout.strip() for seed in (1, 2)]
    cancelled = run("cancel", *ids)
    assert cancelled.stdout.splitlines() == [f"{one} is cancelled." for one in ids]
    assert stores.queue.waiting() == 0
    assert json.loads(run("cancel", ids[0], "--json").stdout)["state"] == "cancelled"
    assert "cancelled before it was finished" in run("show", ids[0]).stdout
    finished = run("cancel", forecast_stored(stores, window).id)
    assert finished.returncode == 1
    assert "is finished and can no longer be cancelled" in finished.stderr
    assert run("cancel", "unknown").returncode == 3


def test_a_forecast_on_candles_of_a_file_waits_and_says_what_they_are(
    run: Run, environment: dict[str, str], tmp_path: Path
) -> None:
    file = tmp_path / "my.csv"
    file.write_text(as_csv(candles(kline_window(100))))
    with service("worker", environment, tmp_path):
        made = run("forecast", "--csv", str(file), "--horizon", "3", "--num-samples", "5", "--wait")
    assert made.returncode == 0, made.stderr
    assert "UPLOADED 1h, 3 candles ahead" in made.stdout
    assert "from upload (UPLOADED)" in made.stdout
    assert "2025-01-01T00:00:00Z" in run("forecast", "--help").stdout
    rows = candles(kline_window(100))
    rows[7]["high"] = 1.0
    file.write_text(as_csv(rows))
    refused = run("forecast", "--csv", str(file))
    assert refused.returncode == 2
    assert "Row 7 of klines is not usable: inconsistent" in refused.stderr
    file.write_bytes(b"\xff\xfe")
    assert "not text in UTF-8" in run("forecast", "--csv", str(file)).stderr


def test_a_symbol_that_is_not_ingested_is_fetched_and_forecast(
    run: Run, stores: Stores, environment: dict[str, str], tmp_path: Path
) -> None:
    ingested(stores)
    missing = run("forecast", "--symbol", "SOLUSDT")
    assert (missing.returncode, missing.stdout) == (3, "")
    assert "start `kronos-live ingest`" in missing.stderr
    with VenueServer(real=False) as venue:
        asking = {"KRONOS_DATA__VENUES": "binance", "KRONOS_VENUES__BINANCE_URLS": venue.url}
        with service("ingest", {**environment, **asking}, tmp_path) as ingest, service("worker", environment, tmp_path):
            ingest.wait_for_log("symbols_listed")
            ingest.wait_for_log("fetches_taken")
            done = run("forecast", "--symbol", "SOLUSDT", "--horizon", "3", "--wait", **asking)
            assert done.returncode == 0, done.stderr
            assert "SOLUSDT 1h, 3 candles ahead" in done.stdout
            assert "from binance (LIVE, FETCHED ONCE)" in done.stdout
            mistyped = run("forecast", "--symbol", "SOLUSTD", **asking)
    assert mistyped.returncode == 3
    assert "nearly alike are SOLUSDT" in mistyped.stderr
    assert "FETCHED ONCE" in run("list", "--symbol", "SOLUSDT").stdout


def test_what_waits_for_klines_that_nobody_fetches_says_so_and_can_be_cancelled(
    run: Run, redis: Redis, stores: Stores
) -> None:
    ingested(stores)
    ingest_alive(redis)
    waited = run("forecast", "--symbol", "SOLUSDT", "--wait", "--timeout", "1")
    assert waited.returncode == 1
    assert "is still waiting for ingest after 1 s" in waited.stderr
    [forecast_id] = run("forecast", "--symbol", "SOLUSDT").stdout.split()
    assert f"{forecast_id}: queued, waiting for ingest" in run("show", forecast_id).stdout
    assert run("cancel", forecast_id).stdout == f"{forecast_id} is cancelled.\n"
    assert stores.queue.waiting() == 0
