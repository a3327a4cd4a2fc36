"""What then happened beside what was forecast: counted by hand here, on candles that were made for it."""

from __future__ import annotations

import numpy as np
import pytest

from services.web.charts import forecast_figure
from shared.forecasts import Forecast
from shared.kline_store import Followed
from shared.klines import CLOSE, HIGH, LOW, OPEN, VOLUME, KlineWindow
from shared.outcome import NOTHING, compare, steps_of
from tests.builders import finished_forecast, forecast_request, kline_window

WINDOW = kline_window(400)
BEFORE = KlineWindow(
    WINDOW.symbol, WINDOW.interval, WINDOW.venue, WINDOW.origin, WINDOW.open_times_ms[:300], WINDOW.values[:300]
)


def forecast_of_four() -> Forecast:
    """Four steps after the 300th candle; each band reaches as far around 100 % of the last close as its level is per mille."""
    forecast, _ = finished_forecast("one", BEFORE, forecast_request(horizon=4))
    last = forecast.last_close
    bands = [
        band.model_copy(
            update={"lower": [last * (1 - band.level / 1000)] * 4, "upper": [last * (1 + band.level / 1000)] * 4}
        )
        for band in forecast.close.bands
    ]
    close = forecast.close.model_copy(update={"bands": bands, "median": [last] * 4})
    return forecast.model_copy(update={"close": close})


def candles(forecast: Forecast, changes: dict[int, float]) -> Followed:
    """The candles of some steps, each of which closes as far from the last known close as is said."""
    steps = np.array(sorted(changes))
    values = WINDOW.values[300:][steps - 1].copy()
    values[:, CLOSE] = [forecast.last_close * (1 + changes[step]) for step in steps]
    return Followed(forecast.last_open_time_ms + steps * forecast.request.interval.ms, values)


def test_closes_are_counted_in_each_band_with_its_edges_and_the_median_is_held_against_them() -> None:
    forecast = forecast_of_four()
    followed = candles(forecast, {1: 0.01, 2: -0.06, 3: 0.09, 4: 0.2})
    compared = compare(forecast, followed)
    assert compared is not None
    assert [(band.level, band.kind, band.inside, band.of) for band in compared.bands] == [
        (50, "quantile", 1, 4),
        (80, "quantile", 2, 4),
        (95, "range", 3, 4),
    ]
    assert (compared.step, compared.ended_above, compared.upside) == (4, True, forecast.upside.value)
    assert compared.change == pytest.approx(0.2)
    assert compared.median_error == pytest.approx(-0.2)
    assert compared.mean_absolute_error == pytest.approx((0.01 + 0.06 + 0.09 + 0.2) / 4)


def test_a_close_on_the_edge_of_a_band_lies_inside() -> None:
    forecast = forecast_of_four()
    followed = candles(forecast, {1: 0.0})
    edge = forecast.close.bands[0].upper[0]
    followed.values[0, CLOSE] = edge
    compared = compare(forecast, followed)
    assert compared is not None
    assert compared.bands[0].inside == 1


@pytest.mark.parametrize(
    ("changes", "ended"), [({4: 0.001}, True), ({4: 0.0}, False), ({4: -0.1}, False), ({1: 0.1, 3: 0.1}, None)]
)
def test_the_price_has_ended_above_only_where_the_last_step_has_closed_above(
    changes: dict[int, float], ended: bool | None
) -> None:
    forecast = forecast_of_four()
    compared = compare(forecast, candles(forecast, changes))
    assert compared is not None
    assert compared.ended_above is ended


def test_where_nothing_has_followed_there_is_nothing_to_compare_or_draw() -> None:
    forecast = forecast_of_four()
    assert compare(forecast, NOTHING) is None
    assert not [one for one in forecast_figure(forecast, BEFORE)["data"] if one["meta"]["role"].startswith("outcome")]


def test_what_then_happened_is_drawn_over_the_bands_as_line_candles_and_volume_with_gaps_for_what_is_not_kept() -> None:
    forecast = forecast_of_four()
    followed = candles(forecast, {1: 0.01, 3: 0.03})
    assert steps_of(forecast, followed).tolist() == [1, 3]
    data = forecast_figure(forecast, BEFORE, followed)["data"]
    line, whole, volume = data[-3:]  # last, so on top
    last = forecast.last_close
    assert line["x"] == [forecast.last_open_time_ms, *forecast.open_times_ms[:3]]
    assert line["y"] == [last, pytest.approx(last * 1.01), None, pytest.approx(last * 1.03)]
    assert whole["x"] == volume["x"] == [forecast.open_times_ms[0], forecast.open_times_ms[2]]
    for name, column in {"open": OPEN, "high": HIGH, "low": LOW, "close": CLOSE}.items():
        assert whole[name] == followed.values[:, column].tolist()
    assert whole["visible"] is False
    assert volume["y"] == followed.values[:, VOLUME].tolist()
    assert volume["width"] < forecast.request.interval.ms
    assert [one["meta"]["role"] for one in (line, whole, volume)] == ["outcome", "outcome candles", "outcome volume"]
