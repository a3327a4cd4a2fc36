"""What must never be overlooked about a forecast, in the words that every page, file and picture uses. Pure."""

from __future__ import annotations

from shared.forecasts import Forecast
from shared.klines import Origin


def labels(origin: Origin, model_source: str) -> list[str]:
    """What must never be overlooked about a forecast; empty where klines are live and the model is as configured."""
    by_origin = {
        "live": [],
        "recorded": ["RECORDED DATA"],
        "simulated": ["SIMULATED DATA"],
        "uploaded": ["UPLOADED DATA"],
    }
    return [*by_origin[origin], *(["BUNDLED MODEL"] if model_source == "bundled" else [])]


def forecast_labels(forecast: Forecast) -> list[str]:
    """The same of a forecast; one whose klines were fetched for it alone is followed by no newer one."""
    once = ["FETCHED ONCE"] if forecast.request.fetched_by else []
    return [*labels(forecast.provenance.origin, forecast.provenance.model.source), *once]
