"""From the stores to an answer: the forecast behind an id, and JSON with an ETag."""

from __future__ import annotations

from flask import Response
from pydantic import BaseModel

from services.web.api.contracts import ForecastAnswer
from services.web.conditional import conditional
from services.web.situation import Stores
from shared.errors import NotFoundError
from shared.forecasts import Forecast, JobStatus
from shared.labels import forecast_labels


def finished(forecast: Forecast) -> ForecastAnswer:
    return ForecastAnswer(
        id=forecast.id,
        state="finished",
        position=None,
        labels=forecast_labels(forecast),
        forecast=forecast,
        computed=None,
    )


def find_forecast(stores: Stores, forecast_id: str) -> ForecastAnswer:
    """A forecast from the store, else how its job stands. Raises NotFoundError."""
    if stores.forecasts.exists(forecast_id):
        return finished(stores.forecasts.load(forecast_id))
    job = stores.queue.status(forecast_id)
    if job.state == "finished":  # it landed between the two looks, or retention has dropped it since
        return finished(stores.forecasts.load(forecast_id))
    return ForecastAnswer(**dict(job))


def job_of(stores: Stores, forecast_id: str) -> JobStatus:
    """How a forecast stands, without the forecast. Raises NotFoundError."""
    if stores.forecasts.exists(forecast_id):
        return JobStatus(id=forecast_id, state="finished", position=None)
    return stores.queue.status(forecast_id)


def load_finished(stores: Stores, forecast_id: str) -> Forecast:
    """A finished forecast. Raises NotFoundError that tells one on its way from one that never was."""
    found = find_forecast(stores, forecast_id)
    if found.forecast is None:
        raise NotFoundError(f"Forecast {forecast_id} is {found.state}: it has no paths yet.")
    return found.forecast


def json_answer(answer: BaseModel, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    response = Response(answer.model_dump_json(), status, headers, mimetype="application/json")
    return conditional(response) if status == 200 else response
