"""What a backtest left in the ledger is a record of its own, labelled so, and no live figure counts it."""

from __future__ import annotations

import httpx
from redis import Redis

from services.inference.backtest.seeding import seed_ledger
from services.web.situation import Stores
from shared.ledger import Ledger, LedgerEntry
from tests.builders import finished_forecast, forecast_request, kline_window, with_baselines
from tests.integration.test_web_record import scored
from tests.web_server import HOUR_MS


def backtested(redis: Redis, live: list[LedgerEntry], *, hours_before: int) -> list[LedgerEntry]:
    """The live entries again, as a backtest of earlier hours would have made them, twice as far off."""
    entries = []
    for one in live:
        assert one.scores
        changed = {
            "forecast_id": f"backtest-{one.forecast_id}",
            "made_for": "backtest",
            "last_open_time_ms": one.last_open_time_ms - hours_before * HOUR_MS,
            "scores": one.scores.model_copy(update={"crps": 2 * one.scores.crps}),
        }
        entries.append(one.model_copy(update=changed))
    assert seed_ledger(redis, entries).book == "backtest"
    return entries


def test_a_backtests_entries_are_told_apart_and_change_no_live_figure(web: httpx.Client, redis: Redis) -> None:
    scored(redis, 40)
    live = web.get("/api/v1/track-record").json()
    entries = Ledger(redis).entries("BTCUSDT", kline_window(2).interval, "live")
    backtested(redis, entries, hours_before=1000)
    assert web.get("/api/v1/track-record").json() == live
    answer = web.get("/api/v1/track-record?origin=backtest").json()
    assert (answer["origin"], answer["entries"]) == ("backtest", 40)
    assert answer["record"]["crps"] > 1.9 * live["record"]["crps"]
    rows = web.get("/api/v1/ledger?origin=backtest&limit=10").json()
    assert {(one["made_for"], one["origin"]) for one in rows["entries"]} == {("backtest", "live")}
    assert "origin=backtest" in rows["next"]
    assert {one["made_for"] for one in web.get("/api/v1/ledger?limit=1000").json()["entries"]} == {"schedule"}
    assert web.get("/api/v1/ledger.csv?origin=backtest").text.count("\n") == 41


def test_their_page_is_labelled(web: httpx.Client, redis: Redis) -> None:
    scored(redis, 3)
    entries = Ledger(redis).entries("BTCUSDT", kline_window(2).interval, "live")
    backtested(redis, entries, hours_before=1000)
    page = web.get("/track-record?origin=backtest").text
    assert "BACKTEST" in page
    assert "no live figure counts them" in page
    assert "BACKTEST" not in web.get("/track-record").text
    assert "回测" in web.get("/track-record?origin=backtest&lang=zh").text


def test_a_forecast_says_how_many_of_its_teachers_a_backtest_made(
    web: httpx.Client, redis: Redis, stores: Stores
) -> None:
    from services.inference.calibration import recalibrate
    from shared.calibration_store import CalibrationStore

    window = scored(redis, 10)
    ledger = Ledger(redis)
    live = ledger.entries("BTCUSDT", window.interval, "live")
    backtested(redis, live, hours_before=1000)
    backtested(redis, live, hours_before=2000)  # the same ids: they are there already
    more = [one.model_copy(update={"forecast_id": f"{one.forecast_id}-earlier"}) for one in live]
    backtested(redis, more, hours_before=3000)
    (learned,) = CalibrationStore(redis).load("BTCUSDT", window.interval, "live").values()
    assert (learned.scored, learned.from_backtest) == (30, 20)
    forecast, paths = finished_forecast("asked", window, forecast_request(stores.klines.save(window)), seed=1)
    forecast, draws = with_baselines(forecast, window)
    said = recalibrate(forecast, learned)
    assert said is not None
    stores.forecasts.save(forecast.model_copy(update={"recalibrated": said}), paths, draws)
    assert web.get("/api/v1/forecasts/asked").json()["forecast"]["recalibrated"]["learned"]["from_backtest"] == 20
    assert "20 of them were made by a backtest" in web.get("/forecasts/asked").text
