"""Forecasts whose candles have closed are scored once, by their own venue, and teach the next ones; against a real Redis."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from redis import Redis

from services.inference.scorekeeper import Stores, score_due
from shared.calibration import FEWEST
from shared.calibration_store import CalibrationStore
from shared.due_forecasts import LONGEST_WAIT_MS
from shared.forecast_store import ForecastStore
from shared.forecasts import Forecast, scheduled_forecast_id
from shared.kline_store import KlineStore
from shared.klines import CLOSE, Interval, KlineWindow, Origin
from shared.ledger import LedgerEntry
from tests.builders import finished_forecast, forecast_request, kline_window, with_baselines

H1 = Interval.H1
LONG = kline_window(700)


@pytest.fixture
def stores(redis: Redis) -> Stores:
    return Stores(KlineStore(redis, 500), ForecastStore(redis, 500), CalibrationStore(redis))


def rows(first: int, end: int, of: KlineWindow = LONG) -> KlineWindow:
    return replace(of, open_times_ms=of.open_times_ms[first:end], values=of.values[first:end])


def forecast_at(stores: Stores, end: int, of: KlineWindow = LONG) -> Forecast:
    """The schedule's forecast after the first `end` candles, stored with its snapshot."""
    window = rows(max(0, end - 400), end, of)
    request = forecast_request(stores.klines.save(window), num_samples=40)
    forecast_id = scheduled_forecast_id(of.symbol, of.interval, window.last_open_time_ms, of.origin)
    forecast, paths = finished_forecast(forecast_id, window, request, seed=end)
    forecast, draws = with_baselines(forecast, window)
    stores.forecasts.save(forecast, paths, draws)
    return forecast


def score(stores: Stores, after: int, *, waited_ms: int = 0) -> list[LedgerEntry]:
    """As soon as the first `after` candles of LONG have closed, or `waited_ms` later."""
    return score_due(stores, "BTCUSDT", H1, int(LONG.open_times_ms[0]) + after * H1.ms + waited_ms)


def test_a_forecast_is_scored_when_its_last_candle_has_closed_and_only_once(stores: Stores) -> None:
    forecast = forecast_at(stores, 400)
    stores.klines.save(rows(23, 423))
    assert score(stores, 423) == []
    stores.klines.save(rows(24, 424))
    (entry,) = score(stores, 424)
    assert entry.forecast_id == forecast.id
    assert entry.closes == LONG.values[400:424, CLOSE].tolist()
    assert (entry.problem, entry.revised, entry.made_for, entry.venue) == (None, False, "schedule", "binance")
    assert entry.scores
    assert score(stores, 425) == []
    assert stores.forecasts.ledger.entries("BTCUSDT", H1, "live") == [entry]


def test_the_outcome_comes_from_the_forecasts_own_venue(stores: Stores) -> None:
    forecast_at(stores, 400)
    stores.klines.save(replace(rows(24, 424), venue="okx"))
    assert score(stores, 424) == []
    stores.klines.save(rows(30, 430))
    (entry,) = score(stores, 430)
    assert entry.venue == "binance"


def test_a_venue_that_never_comes_back_is_waited_for_and_then_named(stores: Stores) -> None:
    forecast_at(stores, 400)
    assert score(stores, 424, waited_ms=LONGEST_WAIT_MS - 2 * H1.ms) == []
    (entry,) = score(stores, 424, waited_ms=LONGEST_WAIT_MS)
    assert entry.scores is None
    assert entry.problem is not None
    assert entry.problem.startswith("24 of 24 candles are missing at binance, the first at 2025-01-17 16:00")


def test_missing_candles_are_named_and_the_others_scored(stores: Stores) -> None:
    forecast_at(stores, 400)
    stores.klines.save(rows(10, 410))
    stores.klines.save(rows(412, 500))
    (entry,) = score(stores, 500)
    assert entry.problem
    assert "2 of 24 candles are missing" in entry.problem
    assert [place for place, close in enumerate(entry.closes) if close is None] == [10, 11]
    assert entry.scores
    assert entry.scores.upside


def test_a_revised_candle_is_named(stores: Stores) -> None:
    forecast = forecast_at(stores, 400)
    later = rows(24, 424)
    values = later.values.copy()
    values[375, [1, 3]] = later.values[375, 1] + 1  # the last candle that the forecast knew
    stores.klines.save(replace(later, values=values))
    (entry,) = score(stores, 424)
    assert entry.revised
    assert entry.problem
    assert f"the last known close was {forecast.last_close:g} then" in entry.problem


@pytest.mark.parametrize("origin", ["simulated", "recorded"])
def test_series_that_are_not_live_have_a_ledger_of_their_own(stores: Stores, origin: Origin) -> None:
    made_up = replace(LONG, origin=origin, venue=origin)
    forecast_at(stores, 400, made_up)
    stores.klines.save(rows(24, 424))
    assert score(stores, 424) == []
    stores.klines.save(rows(24, 424, made_up))
    (entry,) = score(stores, 424)
    assert entry.origin == origin
    assert stores.forecasts.ledger.version("BTCUSDT", H1, "live")[0] == 0


def test_what_is_scored_teaches_the_next_forecast_of_the_same_forecaster(stores: Stores) -> None:
    for end in range(400, 400 + FEWEST):
        forecast_at(stores, end)
    stores.klines.save(rows(200, 600))
    assert len(score(stores, 400 + 23 + FEWEST - 1)) == FEWEST - 1
    assert stores.calibrations.load("BTCUSDT", H1, "live") == {}
    (last,) = score(stores, 400 + 23 + FEWEST)
    learned = stores.calibrations.load("BTCUSDT", H1, "live")
    assert list(learned) == [last.forecaster]
    assert learned[last.forecaster].scored == FEWEST
    assert {band.level for band in learned[last.forecaster].bands} == {50, 80, 95}
    assert all(np.isfinite(band.factors).all() for band in learned[last.forecaster].bands)


def test_a_run_that_died_before_it_learned_is_made_up_for_by_the_next(stores: Stores, redis: Redis) -> None:
    for end in range(400, 400 + FEWEST):
        forecast_at(stores, end)
    stores.klines.save(rows(200, 600))
    score(stores, 600)
    before = stores.calibrations.load("BTCUSDT", H1, "live")
    redis.delete("kronos:calibration:BTCUSDT:1h:live")
    assert score(stores, 600) == []
    assert stores.calibrations.load("BTCUSDT", H1, "live") == before


def test_an_entry_is_small_enough_to_be_kept_for_ever(stores: Stores, redis: Redis) -> None:
    for end in range(400, 440):
        forecast_at(stores, end)
    stores.klines.save(rows(200, 600))
    score(stores, 600)
    size = redis.memory_usage("kronos:ledger:BTCUSDT:1h:live", samples=0)
    assert size / 40 < 2000
