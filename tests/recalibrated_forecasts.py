"""Series whose newest forecast is recalibrated by its scored forerunners, or whose newest outcomes left what was expected."""

from __future__ import annotations

from dataclasses import replace

from redis import Redis

from services.inference.calibration import recalibrate
from services.web.situation import Stores
from shared.calibration_store import CalibrationStore
from shared.forecast_store import ForecastStore
from shared.forecasts import Forecast, scheduled_forecast_id
from shared.klines import KlineWindow
from shared.ledger import Ledger, LedgerEntry
from tests.builders import finished_forecast, forecast_request, with_baselines
from tests.web_server import HOUR_MS, ingested


def newest_forecast(redis: Redis, stores: Stores, history: KlineWindow) -> Forecast:
    """The schedule's forecast after the last candle of a scored history, as inference makes it of what was learned."""
    ingested(stores, last_open_time_ms=history.last_open_time_ms)
    window = replace(history, open_times_ms=history.open_times_ms[-100:], values=history.values[-100:])
    request = forecast_request(stores.klines.save(window), num_samples=40)
    named = scheduled_forecast_id(window.symbol, window.interval, window.last_open_time_ms, window.origin)
    forecast, paths = finished_forecast(named, window, request, seed=5)
    forecast, draws = with_baselines(forecast, window)
    learned = CalibrationStore(redis).load(window.symbol, window.interval, window.origin)
    [calibration] = learned.values() or [None]
    if calibration:
        forecast = forecast.model_copy(update={"recalibrated": recalibrate(forecast, calibration)})
    ForecastStore(redis, 500).save(forecast, paths, draws)
    return forecast


def outcomes(redis: Redis, template: LedgerEntry, inside: list[bool], *, name: str, times: float = 0.9) -> None:
    """An entry for each, one horizon apart so that none overlap, whose bands held every close or none.

    They follow the template's candle, oldest first, and have its CRPS, `times` that of every baseline.
    """
    assert template.scores
    scores = template.scores
    baselines = {kind: one.model_copy(update={"crps": scores.crps / times}) for kind, one in scores.baselines.items()}
    for number, held in enumerate(inside):
        bands = [band.model_copy(update={"covered": [held] * template.horizon}) for band in scores.bands]
        entry = template.model_copy(
            update={
                "forecast_id": f"{name}-{number}",
                "last_open_time_ms": template.last_open_time_ms + (1 + number) * template.horizon * HOUR_MS,
                "scores": scores.model_copy(update={"bands": bands, "baselines": baselines, "recalibrated": None}),
            }
        )
        assert Ledger(redis).add(entry)
