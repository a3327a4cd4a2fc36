"""What is said of a forecast without recalibrated bands: why, and how many scored ones are still needed."""

from __future__ import annotations

import pytest

from services.web.languages import in_english
from services.web.recalibration import why_not_recalibrated
from shared.calibration import FEWEST, BandFactors, SeriesCalibration
from shared.forecasts import Forecast, Recalibrated
from shared.klines import Interval
from shared.series_record import SeriesRecord, series_record
from tests.builders import finished_forecast, forecast_request, kline_window
from tests.unit.web.test_record_charts import entry


def forecast() -> Forecast:
    return finished_forecast("f", kline_window(120), forecast_request())[0]


def scored(count: int) -> SeriesRecord:
    entries = [entry(number, recalibrated=False) for number in range(count)]
    return series_record("BTCUSDT", Interval.H1, "live", entries)


@pytest.mark.parametrize(
    ("found", "enabled", "said"),
    [
        (
            scored(0),
            True,
            f"come with {FEWEST} scored forecasts of the schedule that were made in this way: 0 there are, 30",
        ),
        (scored(12), True, "12 there are, 18 are still needed."),
        (scored(FEWEST), True, f"made before {FEWEST} of its kind were scored"),
        (scored(FEWEST), False, "switched off (calibration.enabled)"),
        (None, True, "Candles that were sent have no record"),
    ],
)
def test_why_there_are_none_is_said(found: SeriesRecord | None, enabled: bool, said: str) -> None:
    assert said in in_english(why_not_recalibrated(forecast(), found, enabled=enabled))


def test_nothing_is_said_of_one_that_has_them() -> None:
    raw = forecast()
    learned = SeriesCalibration(
        scored=FEWEST, bands=[BandFactors(level=80, factors=[1.0])], upside=None, volatility_amplification=None
    )
    beside = Recalibrated(bands=raw.close.bands, upside=None, volatility_amplification=None, learned=learned)
    recalibrated = raw.model_copy(update={"recalibrated": beside})
    assert why_not_recalibrated(recalibrated, scored(FEWEST), enabled=True) == []
