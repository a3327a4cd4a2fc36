"""A finished forecast's paths to take away: Parquet, JSON, one path alone, quantiles as long rows.

Paths never change once they are stored, so an answer's ETag is known before it is made.
"""

from __future__ import annotations

from flask import Response
from flask_openapi3.blueprint import APIBlueprint

from services.web.api.answers import json_answer, load_finished
from services.web.api.computing import computed_quantiles
from services.web.api.contracts import (
    ForecastPath,
    OnePath,
    PathsAnswer,
    QuantileRowsQuery,
    QuantilesQuery,
    SinglePathAnswer,
    problems,
)
from services.web.conditional import conditional
from services.web.path_formats import json_rows, parquet, quantile_rows, single_path
from services.web.situation import Stores
from shared.errors import NotFoundError
from shared.forecasts import Forecast
from shared.labels import forecast_labels

PARQUET = "application/vnd.apache.parquet"


def add_exports(api: APIBlueprint, stores: Stores) -> None:
    table = {
        "description": "path, step, open_time (timestamp, UTC), open, high, low, close, volume, amount (float32)",
        "content": {PARQUET: {"schema": {"type": "string", "format": "binary"}}},
    }
    rows = {
        "description": "symbol,interval,column,quantile,kind,step,open_time,value",
        "content": {"text/csv": {"schema": {"type": "string"}}},
    }

    @api.get("/forecasts/<forecast_id>/paths.parquet", responses={200: table, **problems(404)})
    def paths_parquet(path: ForecastPath) -> Response:
        """All paths of a forecast as drawn, for data frames: `pandas.read_parquet(address)`."""
        forecast = load_finished(stores, path.forecast_id)
        drawn = stores.forecasts.load_paths(forecast.id)
        response = Response(parquet(forecast, drawn, forecast_labels(forecast)), mimetype=PARQUET)
        return _to_keep(response, forecast, "paths.parquet")

    @api.get("/forecasts/<forecast_id>/paths.json", responses={200: PathsAnswer, **problems(404)})
    def paths_json(path: ForecastPath) -> Response:
        """All paths of a forecast as drawn; `paths` is [paths][horizon][columns], null what is not finite."""
        forecast = load_finished(stores, path.forecast_id)
        drawn = stores.forecasts.load_paths(forecast.id)
        response = Response(json_rows(forecast, drawn, forecast_labels(forecast)), mimetype="application/json")
        return _to_keep(response, forecast, "paths.json")

    @api.get("/forecasts/<forecast_id>/paths/<number>", responses={200: SinglePathAnswer, **problems(404)})
    def single(path: OnePath) -> Response:
        """One path of a forecast, counted from 0: the same path for the same seed, however many were drawn."""
        forecast = load_finished(stores, path.forecast_id)
        drawn = stores.forecasts.load_paths(forecast.id)
        if path.number >= len(drawn):
            raise NotFoundError(
                f"There is no path {path.number}: forecast {forecast.id} has {len(drawn)}, from 0 to {len(drawn) - 1}."
            )
        answer = single_path(forecast, drawn[path.number], path.number, forecast_labels(forecast))
        return json_answer(SinglePathAnswer.model_validate(answer))

    @api.get("/forecasts/<forecast_id>/quantiles.csv", responses={200: rows, **problems(404, 422)})
    def quantiles_csv(path: ForecastPath, query: QuantileRowsQuery) -> Response:
        """Quantiles of every column at every step, a row for each, as tables and data frames like them."""
        forecast = load_finished(stores, path.forecast_id)
        computed = computed_quantiles(stores, forecast, QuantilesQuery(quantiles=query.quantiles, levels=None))
        text = "".join(quantile_rows(forecast, computed.quantiles.items() if computed else []))
        response = conditional(Response(text, mimetype="text/csv"))
        response.headers["Content-Disposition"] = f'attachment; filename="{forecast.id}-quantiles.csv"'
        return response


def _to_keep(response: Response, forecast: Forecast, name: str) -> Response:
    response.headers["Content-Disposition"] = f'attachment; filename="{forecast.id}-{name}"'
    response.set_etag(f"{forecast.id}-{forecast.created_at:%Y%m%dT%H%M%S%f}-{name}")
    return conditional(response)
