"""Parts of a finished forecast: its paths as rows, and its chart."""

from __future__ import annotations

from flask import Response, make_response
from flask_openapi3.blueprint import APIBlueprint

from services.web.api.answers import load_finished
from services.web.api.contracts import ForecastPath, problems
from services.web.charts import forecast_figure
from services.web.conditional import conditional
from services.web.path_formats import csv_rows
from services.web.situation import Stores
from shared.errors import NotFoundError
from shared.outcome import followed_candles


def add_parts(api: APIBlueprint, stores: Stores) -> None:
    csv = {"description": "path,step,open_time,open,high,low,close,volume,amount", "content": {"text/csv": {}}}
    binary = {
        "description": "little-endian float32 in C order, [paths, horizon, columns] as `forecast.paths` says",
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
    }
    figure = {"description": "a Plotly figure, times in UTC ms", "content": {"application/json": {}}}

    @api.get("/forecasts/<forecast_id>/paths.csv", responses={200: csv, **problems(404)})
    def paths(path: ForecastPath) -> Response:
        """All paths of a forecast as drawn, one row for each path and step; open_time in UTC."""
        forecast = load_finished(stores, path.forecast_id)
        rows = csv_rows(forecast, stores.forecasts.load_paths(path.forecast_id))
        response = Response(rows, mimetype="text/csv")
        response.headers["Content-Disposition"] = f'attachment; filename="{forecast.id}-paths.csv"'
        return response

    @api.get("/forecasts/<forecast_id>/paths.bin", responses={200: binary, **problems(404)})
    def paths_binary(path: ForecastPath) -> Response:
        """All paths of a forecast as drawn, for programs that count in them."""
        load_finished(stores, path.forecast_id)
        drawn = stores.forecasts.load_paths(path.forecast_id)
        return conditional(Response(drawn.astype("<f4").tobytes(), mimetype="application/octet-stream"))

    @api.get("/forecasts/<forecast_id>/chart.json", responses={200: figure, **problems(404)})
    def chart(path: ForecastPath) -> Response:
        """The forecast, the klines before it, and what has followed since, as a Plotly figure."""
        forecast = load_finished(stores, path.forecast_id)
        try:
            history = stores.klines.load(forecast.request.snapshot_id)
        except NotFoundError:
            history = None
        return conditional(make_response(forecast_figure(forecast, history, followed_candles(stores.klines, forecast))))
