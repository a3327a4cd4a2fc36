"""The figure of a forecast, as data."""

from __future__ import annotations

import json
from typing import Any

import pytest

from services.web.charts import forecast_figure
from shared.forecasts import Forecast
from shared.klines import CLOSE, KlineWindow, Origin
from tests.builders import finished_forecast, forecast_request, kline_window


def forecast_on(window: KlineWindow, **wishes: object) -> Forecast:
    return finished_forecast("id", window, forecast_request(**wishes))[0]


def trace(figure: dict[str, Any], role: str) -> dict[str, Any]:
    """The last trace of a role: of a band, its upper edge."""
    return [one for one in figure["data"] if one["meta"]["role"] == role][-1]


def test_mean_median_and_bands_leave_from_the_last_known_close() -> None:
    window = kline_window()
    figure = forecast_figure(forecast_on(window), window)
    for role in ("mean", "median", "band 50", "band 80", "band 95"):
        drawn = trace(figure, role)
        assert drawn["x"][0] == window.last_open_time_ms
        assert drawn["y"][0] == window.last_close
        assert len(drawn["x"]) == len(drawn["y"]) == 25


def test_the_numbers_drawn_are_those_of_the_forecast() -> None:
    window = kline_window()
    forecast = forecast_on(window)
    figure = forecast_figure(forecast, window)
    assert trace(figure, "mean")["y"][1:] == forecast.close.mean
    assert trace(figure, "median")["y"][1:] == forecast.close.median
    assert trace(figure, "band 80")["y"][1:] == forecast.close.bands[1].upper
    assert trace(figure, "band 80")["customdata"][1:] == forecast.close.bands[1].lower
    assert trace(figure, "forecast volume")["y"] == forecast.volume.mean
    assert trace(figure, "mean")["x"][1:] == forecast.open_times_ms


@pytest.mark.parametrize(("horizon", "shown"), [(24, 120), (60, 300), (100, 400)])
def test_history_is_five_horizons_long_at_least_120_candles_and_never_more_than_there_is(
    horizon: int, shown: int
) -> None:
    window = kline_window(400)
    history = trace(forecast_figure(forecast_on(window, horizon=horizon), window), "history")
    assert history["y"] == window.values[-shown:, CLOSE].tolist()
    assert history["x"][-1] == window.last_open_time_ms


def test_the_widest_band_lies_below_the_narrower_ones() -> None:
    window = kline_window()
    roles = [one["meta"]["role"] for one in forecast_figure(forecast_on(window), window)["data"]]
    assert roles[:6] == ["band 95", "band 95", "band 80", "band 80", "band 50", "band 50"]


def test_a_band_of_too_few_paths_is_called_their_range() -> None:
    window = kline_window()
    figure = forecast_figure(forecast_on(window), window)
    assert trace(figure, "band 95")["name"] == "range of the paths"
    assert trace(figure, "band 80")["name"] == "80 % band"


def test_without_the_snapshot_the_forecast_alone_is_drawn_and_says_so() -> None:
    figure = forecast_figure(forecast_on(kline_window()), None)
    assert figure["history_missing"]
    assert not [one for one in figure["data"] if one["meta"]["role"].startswith("history")]


@pytest.mark.parametrize(
    ("origin", "written"), [("live", []), ("simulated", ["SIMULATED DATA"]), ("recorded", ["RECORDED DATA"])]
)
def test_data_that_is_not_live_is_written_across_the_chart(origin: Origin, written: list[str]) -> None:
    window = kline_window(origin=origin)
    assert [note["text"] for note in forecast_figure(forecast_on(window), window)["layout"]["annotations"]] == written


def test_what_is_not_a_number_becomes_a_gap_and_the_figure_stays_json() -> None:
    window = kline_window()
    forecast = forecast_on(window)
    broken = forecast.close.model_copy(update={"mean": [float("nan"), *forecast.close.mean[1:]]})
    figure = forecast_figure(forecast.model_copy(update={"close": broken}), window)
    assert trace(figure, "mean")["y"][1] is None
    json.dumps(figure, allow_nan=False)
