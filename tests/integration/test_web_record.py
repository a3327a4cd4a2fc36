"""The ledger and the track record over HTTP, as the API answers and as the page tells it."""

from __future__ import annotations

from dataclasses import replace
from io import BytesIO

import httpx
import pandas as pd
import pytest
from redis import Redis

from services.inference.scorekeeper import Stores as ScoringStores
from services.inference.scorekeeper import score_due
from services.web.situation import Stores
from shared.calibration import FEWEST
from shared.calibration_store import CalibrationStore
from shared.forecast_store import ForecastStore
from shared.kline_store import KlineStore
from shared.klines import KlineWindow, Origin
from shared.ledger import Ledger, LedgerEntry
from tests.builders import finished_forecast, forecast_request, kline_window, with_baselines
from tests.recalibrated_forecasts import newest_forecast
from tests.web_server import HOUR_MS, ingested, newest_closed_candle

SCORED = FEWEST + 24


def scored(redis: Redis, count: int = SCORED, *, origin: Origin = "live") -> KlineWindow:
    """Hourly forecasts of the schedule whose candles have closed, the last of them just now; all scored."""
    stores = ScoringStores(KlineStore(redis, 500), ForecastStore(redis, 500), CalibrationStore(redis))
    venue = "binance" if origin == "live" else origin
    candles = 100 + count + 24
    history = kline_window(
        candles, venue=venue, origin=origin, start_ms=newest_closed_candle() - (candles - 1) * HOUR_MS
    )
    for end in range(100, 100 + count):
        window = replace(
            history, open_times_ms=history.open_times_ms[end - 100 : end], values=history.values[end - 100 : end]
        )
        request = forecast_request(stores.klines.save(window), num_samples=40)
        forecast, paths = finished_forecast(f"BTCUSDT-1h-{origin}-{end}", window, request, seed=end)
        forecast, draws = with_baselines(forecast, window)
        stores.forecasts.save(forecast, paths, draws)
    stores.klines.save(history)
    assert len(score_due(stores, "BTCUSDT", history.interval, history.last_close_time_ms)) == count
    return history


def test_the_record_says_how_the_model_did_beside_the_baselines(web: httpx.Client, redis: Redis) -> None:
    scored(redis)
    answer = web.get("/api/v1/track-record").json()
    record = answer["record"]
    assert (answer["origin"], answer["entries"], record["forecasts"]) == ("live", SCORED, SCORED)
    assert record["skill"]["value"] == pytest.approx(
        1 - record["crps"] / min(one["crps"] for one in record["baselines"])
    )
    assert [band["level"] for band in record["bands"]] == [50, 80, 95]
    assert [one["forecaster"] for one in answer["forecasters"]] == [record["forecaster"]["forecaster"]]


def test_nothing_scored_is_said_and_no_error(web: httpx.Client) -> None:
    answer = web.get("/api/v1/track-record")
    assert (answer.status_code, answer.json()["record"], answer.json()["forecasters"]) == (200, None, [])
    page = web.get("/track-record")
    assert page.status_code == 200
    assert "NOTHING SCORED YET" in page.text
    assert "<table" not in page.text


def test_a_new_entry_is_in_the_next_answer(web: httpx.Client, redis: Redis) -> None:
    scored(redis, 3)
    first = web.get("/api/v1/track-record").json()
    entry = web.get("/api/v1/ledger").json()["entries"][0]
    again = LedgerEntry.model_validate({**entry, "forecast_id": "another", "last_open_time_ms": 0})
    assert Ledger(redis).add(again)
    assert web.get("/api/v1/track-record").json()["entries"] == first["entries"] + 1 == 4


def test_the_ledger_is_paged_newest_first_and_nothing_is_left_out(web: httpx.Client, redis: Redis) -> None:
    scored(redis)
    address, pages = "/api/v1/ledger?limit=20", []
    while address:
        answer = web.get(address).json()
        pages.append([entry["forecast_id"] for entry in answer["entries"]])
        address = answer["next"]
    ids = [one for page in pages for one in page]
    assert ids == [f"BTCUSDT-1h-live-{end}" for end in reversed(range(100, 100 + SCORED))]
    assert [len(page) for page in pages] == [20, 20, SCORED - 40]


def test_the_ledger_as_csv_and_parquet_has_the_same_rows(web: httpx.Client, redis: Redis) -> None:
    scored(redis, 5)
    from_csv = pd.read_csv(BytesIO(web.get("/api/v1/ledger.csv").content))
    from_parquet = pd.read_parquet(BytesIO(web.get("/api/v1/ledger.parquet").content))
    assert list(from_csv.columns) == list(from_parquet.columns)
    assert from_csv["forecast_id"].tolist() == from_parquet["forecast_id"].tolist()
    assert from_csv["crps"].to_numpy() == pytest.approx(from_parquet["crps"].to_numpy())
    entries = web.get("/api/v1/ledger").json()["entries"]
    assert from_csv["crps_random_walk"].tolist() == pytest.approx(
        [entry["scores"]["baselines"]["random_walk"]["crps"] for entry in entries]
    )


def test_live_and_simulated_never_mix(web: httpx.Client, redis: Redis) -> None:
    scored(redis, 4)
    scored(redis, 3, origin="simulated")
    assert web.get("/api/v1/ledger").json()["entries"][0]["origin"] == "live"
    assert {one["origin"] for one in web.get("/api/v1/ledger?origin=simulated").json()["entries"]} == {"simulated"}
    counts = [web.get(f"/api/v1/track-record?origin={one}").json()["entries"] for one in ("live", "simulated")]
    assert counts == [4, 3]
    assert "SIMULATED DATA" in web.get("/track-record?origin=simulated").text
    assert "SIMULATED DATA" not in web.get("/track-record?origin=live").text


def test_the_page_claims_no_more_than_its_interval_bears(web: httpx.Client, redis: Redis) -> None:
    scored(redis)
    page = web.get("/track-record").text
    assert "TOO FEW SCORED YET" in page
    assert f"{SCORED} of 120 forecasts are scored" in page, "five horizons of a day that do not overlap"
    record = web.get("/api/v1/track-record").json()["record"]
    assert (record["verdict"], record["needed"], record["skill"]["lower"]) == ("too few", 120, None)


@pytest.mark.parametrize(
    ("times", "title"), [(0.5, "BETTER THAN EVERY BASELINE"), (1.0, "NO EDGE"), (2.0, "WORSE THAN THE BEST BASELINE")]
)
def test_a_verdict_is_in_big_letters(web: httpx.Client, redis: Redis, times: float, title: str) -> None:
    scored(redis, 3)
    entry = LedgerEntry.model_validate(web.get("/api/v1/ledger").json()["entries"][0])
    assert entry.scores
    plain = min(one.crps for one in entry.scores.baselines.values())
    redis.flushdb()
    for day in range(40):  # the best baseline's CRPS times the same, a little more and less by turns
        crps = plain * times * (1 + 0.1 * (-1) ** day)
        scores = entry.scores.model_copy(update={"crps": crps})
        at_ms = entry.last_open_time_ms - day * 24 * HOUR_MS
        another = {
            "forecast_id": f"times-{times:g}-{day}".replace(".", "-"),
            "last_open_time_ms": at_ms,
            "scores": scores,
        }
        assert Ledger(redis).add(entry.model_copy(update=another))
    page = web.get("/track-record").text
    assert title in page
    assert "40 forecasts: skill" in page


def test_the_page_names_every_baseline_and_speaks_chinese(web: httpx.Client, redis: Redis) -> None:
    scored(redis, 3)
    page = web.get("/track-record").text
    assert "random walk, EWMA(0.97)" in page
    assert "重新校准" in web.get("/track-record?lang=zh").text


def test_the_dashboard_says_what_its_bands_have_held_so_far(web: httpx.Client, redis: Redis, stores: Stores) -> None:
    history = scored(redis)
    ingested(stores, last_open_time_ms=history.last_open_time_ms)
    forecast = "BTCUSDT-1h-live-130"
    page = web.get(f"/forecasts/{forecast}").text
    share = web.get("/api/v1/track-record").json()["record"]["bands"][1]["covered"]["value"]
    assert f"CHECKED against {SCORED} outcomes." in page
    assert f"{share * 100:.1f}\u00a0%" in page
    assert "UNCALIBRATED" not in page


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("origin=uploaded", "origin is 'uploaded', but allowed is"),
        ("forecaster=nobody", "forecaster is 'nobody', but allowed is"),
        ("symbol=btc", "symbol is 'btc', but allowed is"),
    ],
)
def test_what_cannot_be_asked_is_refused_in_one_sentence(web: httpx.Client, query: str, said: str) -> None:
    answer = web.get(f"/api/v1/track-record?{query}")
    assert answer.status_code == 422
    assert said in answer.json()["detail"]
    assert web.get(f"/track-record?{query}").status_code == (404 if "forecaster" not in query else 200)


@pytest.mark.parametrize("path", ["ledger", "ledger.csv", "ledger.parquet", "track-record"])
def test_whoever_has_it_already_hears_so_until_an_entry_is_added(web: httpx.Client, redis: Redis, path: str) -> None:
    scored(redis, 3)
    first = web.get(f"/api/v1/{path}")
    assert (first.status_code, first.headers["cache-control"]) == (200, "no-cache")
    asking = {"If-None-Match": first.headers["etag"]}
    again = web.get(f"/api/v1/{path}", headers=asking)
    assert (again.status_code, again.content) == (304, b"")
    if path != "track-record":
        assert web.get(f"/api/v1/{path}?limit=1", headers=asking).status_code == 200, "another question"
    entry = LedgerEntry.model_validate(web.get("/api/v1/ledger?limit=1").json()["entries"][0])
    assert Ledger(redis).add(entry.model_copy(update={"forecast_id": "another"}))
    assert web.get(f"/api/v1/{path}", headers=asking).status_code == 200


def test_the_newest_rows_of_the_ledger_and_those_of_a_stretch(web: httpx.Client, redis: Redis) -> None:
    history = scored(redis, 6)
    newest = pd.read_csv(BytesIO(web.get("/api/v1/ledger.csv?limit=2").content))
    assert newest["forecast_id"].tolist() == ["BTCUSDT-1h-live-105", "BTCUSDT-1h-live-104"]
    from_ms = int(history.open_times_ms[101])
    stretch = f"from_ms={from_ms}&until_ms={from_ms + 2 * HOUR_MS}"
    answer = web.get(f"/api/v1/ledger.parquet?{stretch}")
    assert 'filename="ledger-BTCUSDT-1h-live.parquet"' in answer.headers["content-disposition"]
    rows = pd.read_parquet(BytesIO(answer.content))
    assert rows["forecast_id"].tolist() == ["BTCUSDT-1h-live-103", "BTCUSDT-1h-live-102"]
    assert str(rows["last_open_time_ms"].dtype) == "int64"
    assert rows["upside_happened"].dtype == bool


@pytest.mark.parametrize(
    ("address", "status", "said"),
    [
        ("ledger?from_ms=5&until_ms=5", 422, "until_ms is 5, but allowed is a moment after from_ms, which is 5."),
        ("ledger.csv?limit=0", 422, "limit is '0', but allowed is a whole number from 1 to 1000000"),
        ("ledger?limit=1001", 422, "limit is '1001', but allowed is a whole number from 1 to 1000."),
        (
            "track-record?forecaster=0123456789abcdef",
            404,
            "There is no forecaster '0123456789abcdef' in the ledger of live",
        ),
    ],
)
def test_what_the_ledger_cannot_be_asked(web: httpx.Client, redis: Redis, address: str, status: int, said: str) -> None:
    scored(redis, 1)
    answer = web.get(f"/api/v1/{address}")
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
    assert said in answer.json()["detail"]
    assert answer.json()["errors"][0]["field"] in address


def test_a_series_says_which_other_ledgers_it_has(web: httpx.Client, redis: Redis) -> None:
    scored(redis, 3)
    scored(redis, 2, origin="simulated")
    page = web.get("/track-record?origin=live").text
    assert 'origin=simulated">simulated (2)</a>' in page
    assert 'aria-current="page">live (3)</a>' in page
    elsewhere = web.get("/track-record?origin=recorded").text
    assert "NOTHING SCORED YET" in elsewhere
    assert "live (3)" in elsewhere


def test_settings_are_compared_on_the_page_where_both_were_run(web: httpx.Client, redis: Redis) -> None:
    scored(redis, 12, origin="recorded")
    assert "No other setting was run after the same candles" in web.get("/track-record?origin=recorded").text
    ledger = Ledger(redis)
    entries = [LedgerEntry.model_validate(one) for one in web.get("/api/v1/ledger?origin=recorded").json()["entries"]]
    for entry in entries[:8]:
        assert entry.scores
        scores = entry.scores.model_copy(update={"crps": 2 * entry.scores.crps})
        made_so = {"forecaster": "b" * 16, "temperature": 1.0, "made_for": "backtest", "scores": scores}
        assert ledger.add(entry.model_copy(update={"forecast_id": f"{entry.forecast_id}-warm", **made_so}))
    mine = entries[0].forecaster
    record = web.get(f"/api/v1/track-record?origin=recorded&forecaster={mine}").json()["record"]
    [trial] = record["trials"]
    assert (trial["forecaster"], trial["forecasts"]) == ("b" * 16, 8)
    assert trial["skill"]["value"] == pytest.approx(0.5)
    page = web.get(f"/track-record?origin=recorded&forecaster={mine}").text
    assert "Kronos-small, temperature 1, top-p 0.9" in page
    assert "+50.00\u00a0%" in page
    assert "8 of them by a backtest" in web.get(f"/track-record?origin=recorded&forecaster={'b' * 16}").text


def test_a_miss_without_its_forecast_leads_nowhere(web: httpx.Client, redis: Redis) -> None:
    scored(redis, 4)
    entry = LedgerEntry.model_validate(web.get("/api/v1/ledger").json()["entries"][0])
    assert entry.scores
    far_off = entry.scores.model_copy(update={"crps": 50 * entry.scores.crps})
    gone = {"forecast_id": "long-gone", "last_open_time_ms": 0, "scores": far_off}
    assert Ledger(redis).add(entry.model_copy(update=gone))
    [worst, *others] = web.get("/api/v1/track-record").json()["record"]["worst"]
    assert (worst["forecast_id"], worst["closes"], worst["last_close"]) == ("long-gone", entry.closes, entry.last_close)
    page = web.get("/track-record").text
    assert "/forecasts/long-gone" not in page
    assert "The forecast itself is no longer kept" in page
    assert all(f'href="/forecasts/{one["forecast_id"]}"' in page for one in others)


def test_a_forecast_says_how_many_scored_ones_its_recalibration_needs(
    web: httpx.Client, redis: Redis, stores: Stores
) -> None:
    scored(redis, 12)
    page = web.get("/forecasts/BTCUSDT-1h-live-105").text
    assert "12 there are, 18 are still needed." in page
    assert "TOO FEW SCORED YET" in page
    assert "12 个，还需 18 个" in web.get("/forecasts/BTCUSDT-1h-live-105?lang=zh").text


def test_bands_and_probabilities_stand_beside_the_recalibrated_ones(
    web: httpx.Client, redis: Redis, stores: Stores
) -> None:
    forecast = newest_forecast(redis, stores, scored(redis))
    recalibrated = forecast.recalibrated
    assert recalibrated
    figure = web.get(f"/api/v1/forecasts/{forecast.id}/chart.json").json()
    upper = next(
        one for one in figure["data"] if one["meta"]["role"] == "recalibrated band 95" and one.get("fill") == "tonexty"
    )
    band = next(one for one in recalibrated.bands if one.level == 95)
    assert upper["y"] == [forecast.last_close, *band.upper]
    assert upper["customdata"] == [forecast.last_close, *band.lower]
    page = web.get(f"/forecasts/{forecast.id}").text
    assert f"recalibrated by {recalibrated.learned.scored} scored forecasts" in page
    assert 'id="not-recalibrated"' not in page


def test_what_recalibrated_bands_held_is_told_beside_the_raw_ones(
    web: httpx.Client, redis: Redis, stores: Stores
) -> None:
    history = scored(redis)
    made = newest_forecast(redis, stores, history)
    earlier = stores.forecasts.load("BTCUSDT-1h-live-130")
    beside = made.model_copy(
        update={
            "id": "earlier",
            "last_open_time_ms": earlier.last_open_time_ms,
            "open_times_ms": earlier.open_times_ms,
            "last_close": earlier.last_close,
        }
    )
    ForecastStore(redis, 500).save(beside, stores.forecasts.load_paths(made.id))
    answer = web.get("/api/v1/forecasts/earlier/outcome")
    assert answer.status_code == 200, answer.text
    comparison = answer.json()["comparison"]
    levels = [(one["level"], one["of"]) for one in comparison["recalibrated_bands"]]
    assert levels == [(one["level"], one["of"]) for one in comparison["bands"]]
    assert "80 % band, recalibrated" in web.get("/forecasts/earlier").text
