"""What the running web service computes from stored paths: probabilities of events, quantiles, bands."""

from __future__ import annotations

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray

from services.web.situation import Stores
from shared.forecasts import Forecast
from shared.statistics import wilson_share
from tests.web_server import forecast_stored, ingested


@pytest.fixture
def forecast(stores: Stores) -> Forecast:
    return forecast_stored(stores, ingested(stores))


@pytest.fixture
def paths(stores: Stores, forecast: Forecast) -> NDArray[np.float64]:
    return stores.forecasts.load_paths(forecast.id).astype(np.float64)


def address(forecast: Forecast, part: str = "") -> str:
    return f"/api/v1/forecasts/{forecast.id}{part}"


def test_the_probability_of_an_event_is_its_share_of_the_stored_paths(
    web: httpx.Client, forecast: Forecast, paths: NDArray[np.float64]
) -> None:
    price = float(np.median(paths[:, 4, 3]))
    answer = web.get(address(forecast, "/probability"), params={"above": price, "step": 5}).json()
    count = int((paths[:, 4, 3] > price).sum())
    assert 0 < count < 30
    share = wilson_share(count, 30)
    assert answer["probability"] == {
        "value": share.value, "lower": share.lower, "upper": share.upper, "paths": count, "of": 30
    }  # fmt: skip
    assert (answer["step"], answer["open_time_ms"]) == (5, forecast.open_times_ms[4])
    assert answer["event"] == f"BTCUSDT closes above {price:.12g} at step 5"


def test_without_a_step_the_last_one_is_meant_and_a_touch_looks_at_all_before(
    web: httpx.Client, forecast: Forecast, paths: NDArray[np.float64]
) -> None:
    price = float(np.quantile(paths[:, :, 1].max(axis=1), 0.4))
    price = max(price, forecast.last_close)
    touch = web.get(address(forecast, "/probability"), params={"touch": price}).json()
    assert touch["step"] == 24
    assert touch["probability"]["paths"] == int((paths[:, :, 1].max(axis=1) >= price).sum())
    assert touch["event"].endswith("by step 24")
    above = web.get(address(forecast, "/probability"), params={"above": price}).json()["probability"]["value"]
    assert above <= touch["probability"]["value"]


def test_ranges_and_returns_add_up(web: httpx.Client, forecast: Forecast) -> None:
    def value(**query: float) -> float:
        return float(web.get(address(forecast, "/probability"), params=query).json()["probability"]["value"])

    last = forecast.last_close
    assert value(below=last) + value(low=last, high=last * 1.01) + value(above=last * 1.01) == pytest.approx(1)
    assert value(return_above=0.01) == value(above=last * 1.01)
    assert value(return_below=-0.01) == value(below=last * 0.99)


@pytest.mark.parametrize(
    ("query", "field", "words"),
    [
        ("", "above", "No event is named"),
        ("above=1&below=2", "above", "above and below are named"),
        ("low=5", "low", "low and high together"),
        ("low=5&high=4", "low", "low is 5 and high is 4"),
        ("above=high", "above", "a price"),
        ("above=nan", "above", "a price"),
        ("above=1e999", "above", "a price"),
        ("above=1&step=25", "step", "from 1 to 24"),
        ("above=1&step=0", "step", "whole number"),
        ("over=1", "over", "known are above"),
    ],
)
def test_an_event_that_is_not_understood_is_refused_in_one_sentence(
    web: httpx.Client, forecast: Forecast, query: str, field: str, words: str
) -> None:
    refused = web.get(address(forecast, f"/probability?{query}"))
    assert refused.status_code == 422
    assert words in refused.json()["detail"]
    assert refused.json()["errors"][0]["field"] == field


@pytest.mark.parametrize("where", ["one", "latest"])
def test_any_quantiles_and_bands_are_computed_from_the_stored_paths(
    web: httpx.Client, forecast: Forecast, paths: NDArray[np.float64], where: str
) -> None:
    query = {"quantiles": "0.01,.5,0.9", "levels": "50,95"}
    answer = web.get(address(forecast) if where == "one" else "/api/v1/forecasts/latest", params=query).json()
    computed = answer["computed"]
    assert computed["paths"] == 30
    assert set(computed["quantiles"]) == set(computed["bands"]) == {"open", "high", "low", "close", "volume", "amount"}
    low, middle, high = computed["quantiles"]["close"]
    assert [(one["quantile"], one["kind"]) for one in (low, middle, high)] == [
        (0.01, "range"),
        (0.5, "quantile"),
        (0.9, "quantile"),
    ]
    np.testing.assert_allclose(low["values"], paths[:, :, 3].min(axis=0))
    np.testing.assert_allclose(middle["values"], np.median(paths[:, :, 3], axis=0))
    np.testing.assert_allclose(high["values"], np.quantile(paths[:, :, 3], 0.9, axis=0, method="weibull"))
    assert [(band["level"], band["kind"]) for band in computed["bands"]["volume"]] == [(50, "quantile"), (95, "range")]
    assert web.get(address(forecast)).json()["computed"] is None


@pytest.mark.parametrize(
    ("query", "field"),
    [("quantiles=0", "quantiles"), ("quantiles=1", "quantiles"), ("quantiles=0.5;0.6", "quantiles"),
     ("quantiles=", "quantiles"), ("levels=100", "levels"), ("levels=0", "levels"), ("levels=9.5", "levels"),
     ("level=50", "level")],
)  # fmt: skip
def test_quantiles_and_levels_out_of_range_are_named(
    web: httpx.Client, forecast: Forecast, query: str, field: str
) -> None:
    for path in (address(forecast), "/api/v1/forecasts/latest"):
        refused = web.get(f"{path}?{query}")
        assert refused.status_code == 422
        assert refused.json()["errors"][0]["field"] == field
