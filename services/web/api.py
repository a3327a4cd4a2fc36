"""The JSON API under /api/v1: ask for forecasts, follow them, read them, take their paths.

Knows HTTP and the contracts; what may be asked for is checked in shared/adhoc_forecasts.py, for the command line alike.
"""

from __future__ import annotations

import json
import reprlib
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

import numpy as np
from flask import Response, make_response, request
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.tag import Tag
from flask_openapi3.utils import parse_body
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, RootModel, ValidationError

from services.web.charts import forecast_figure
from services.web.conditional import conditional
from services.web.problems import MEDIA_TYPE, Problem, Refused
from services.web.situation import (
    Freshness,
    Situation,
    Stores,
    forecast_labels,
    freshness,
    read_situation,
    why_no_forecast,
)
from services.web.write_access import check_write_access
from shared.adhoc_forecasts import ask_for_forecasts, read_wishes
from shared.errors import NotFoundError, RequestError
from shared.forecasts import Contract, Forecast, ForecastId, ForecastOverrides, JobStatus
from shared.freshness import as_of
from shared.kline_store import SeriesStatus, describe_missing_series
from shared.klines import Interval
from shared.settings import Settings, Symbol, describe_allowed

WRITE_TOKEN = "write_token"  # noqa: S105 - the security scheme's name in the API description
SYMBOL = "2 to 20 capital letters and digits, as in BTCUSDT; left out: the configured one"
INTERVAL = "one of " + ", ".join(interval.value for interval in Interval) + "; left out: the configured one"


class SeriesQuery(BaseModel):
    model_config = ConfigDict(extra="forbid")
    symbol: Symbol | None = Field(None, description=SYMBOL)
    interval: Interval | None = Field(None, description=INTERVAL)


class ForecastsQuery(SeriesQuery):
    limit: int = Field(20, ge=1, le=200, description="a whole number from 1 to 200")


class ForecastPath(BaseModel):
    forecast_id: ForecastId = Field(description="as in Location after asking for it")


class ForecastAnswer(JobStatus):
    """A forecast on its way, or, when finished, the forecast; `labels` is what must not be overlooked about it."""

    labels: list[str] = Field(default_factory=list)
    forecast: Forecast | None = None


class LatestAnswer(ForecastAnswer):
    freshness: Freshness


class PanelMember(JobStatus):
    """One forecast of a panel, on its way."""

    symbol: Symbol
    address: str = Field(description="where to follow it, as Location is for a single forecast")


class PanelAnswer(Contract):
    """What a panel has become: forecasts of their own. There is no Location, since no address stands for all of them."""

    forecasts: list[PanelMember] = Field(description="in the order of the symbols")


class AcceptedAnswer(RootModel[JobStatus | PanelAnswer]):
    """A forecast on its way, or, where `symbols` were named, all of them."""


class ForecastsAnswer(Contract):
    forecasts: list[ForecastAnswer] = Field(description="newest first")


class SeriesAnswer(Contract):
    series: list[SeriesStatus]


def _problems(*statuses: int) -> dict[Any, Any]:
    schema = {"$ref": f"#/components/schemas/{Problem.__name__}"}
    return {status: {"content": {MEDIA_TYPE: {"schema": schema}}} for status in (*statuses, 500, 503)}


def forecast_api(settings: Settings, stores: Stores, now_ms: Callable[[], int]) -> APIBlueprint:
    """The blueprint; `stores` is its only way to the rest of the house."""
    api = APIBlueprint(
        "api",
        __name__,
        url_prefix="/api/v1",
        abp_tags=[Tag(name="forecasts")],
        operation_id_callback=lambda *, name, **_: name,
    )
    _add_asking(api, settings, stores, now_ms)
    _add_reading(api, settings, stores, now_ms)
    _add_parts(api, stores)
    return api


def _add_asking(api: APIBlueprint, settings: Settings, stores: Stores, now_ms: Callable[[], int]) -> None:
    content, schemas = parse_body(ForecastOverrides)
    api.components_schemas.update(schemas)
    body = {"requestBody": {"content": content, "required": False}}

    @api.post(
        "/forecasts",
        responses={202: AcceptedAnswer, **_problems(400, 401, 403, 413, 415, 422, 429)},
        security=[{}, {WRITE_TOKEN: []}],  # asked for where one is configured
        openapi_extensions=body,
    )
    def ask() -> Response:
        """Ask for a forecast; an empty body asks for the configured one.

        It is computed by a worker; follow it at the address in Location. The same seed on the same snapshot gives the
        same paths. `symbols` asks for a panel: a forecast of each, all accepted or none, with the addresses in the
        body instead of a Location; a seed that is named is used for each.
        """
        check_write_access(request, settings.web)
        wishes = read_wishes(settings, _json_body(settings.limits.max_body_bytes))
        ids = ask_for_forecasts(settings, stores.klines, stores.queue, wishes, now_ms())
        asked = [(stores.queue.status(one), f"{api.url_prefix}/forecasts/{one}") for one in ids]
        if wishes.symbols is None:
            [(job, address)] = asked
            return _json(job, 202, {"Location": address})
        panel = zip(wishes.symbols, asked, strict=True)
        return _json(
            PanelAnswer(
                forecasts=[PanelMember(**dict(job), symbol=symbol, address=address) for symbol, (job, address) in panel]
            ),
            202,
        )


def _add_reading(api: APIBlueprint, settings: Settings, stores: Stores, now_ms: Callable[[], int]) -> None:
    def series_of(query: SeriesQuery) -> tuple[str, Interval]:
        return query.symbol or settings.data.symbol, query.interval or settings.data.interval

    def known_series() -> list[SeriesStatus]:
        now = now_ms()
        return [as_of(one, now) for one in stores.klines.all_statuses()]

    @api.get("/forecasts", responses={200: ForecastsAnswer, **_problems(404, 422)})
    def newest(query: ForecastsQuery) -> Response:
        """The newest forecasts of a series, those of the schedule and those that people asked for."""
        symbol, interval = series_of(query)
        found = stores.forecasts.newest(symbol, interval, query.limit)
        if not found and stores.klines.status(symbol, interval) is None:
            raise NotFoundError(describe_missing_series(symbol, interval, known_series()), field="symbol")
        return _json(ForecastsAnswer(forecasts=[finished(forecast) for forecast in found]))

    @api.get("/forecasts/latest", responses={200: LatestAnswer, **_problems(404, 422)})
    def latest(query: SeriesQuery) -> Response:
        """The schedule's forecast for the newest candle, and whether it is as fresh as it should be."""
        now = now_ms()
        situation = read_situation(stores, *series_of(query), now)
        if situation.latest is None:
            raise NotFoundError(_no_forecast_yet(situation))
        fresh = freshness(situation, situation.latest, now)
        return _json(LatestAnswer(**dict(finished(situation.latest)), freshness=fresh))

    @api.get("/forecasts/<forecast_id>", responses={200: ForecastAnswer, **_problems(404)})
    def one(path: ForecastPath) -> Response:
        """One forecast: how it stands while it is on its way, then the forecast itself."""
        return _json(find_forecast(stores, path.forecast_id))

    @api.get("/series", responses={200: SeriesAnswer, **_problems()})
    def series() -> Response:
        """The series that are ingested, and how each stands now."""
        return _json(SeriesAnswer(series=known_series()))


def _add_parts(api: APIBlueprint, stores: Stores) -> None:
    csv = {"description": "path,step,open_time,open,high,low,close,volume,amount", "content": {"text/csv": {}}}
    figure = {"description": "a Plotly figure, times in UTC ms", "content": {"application/json": {}}}

    @api.get("/forecasts/<forecast_id>/paths.csv", responses={200: csv, **_problems(404)})
    def paths(path: ForecastPath) -> Response:
        """All paths of a forecast as drawn, one row for each path and step; open_time in UTC."""
        forecast = _load_finished(stores, path.forecast_id)
        rows = csv_rows(forecast, stores.forecasts.load_paths(path.forecast_id))
        response = Response(rows, mimetype="text/csv")
        response.headers["Content-Disposition"] = f'attachment; filename="{forecast.id}-paths.csv"'
        return response

    @api.get("/forecasts/<forecast_id>/chart.json", responses={200: figure, **_problems(404)})
    def chart(path: ForecastPath) -> Response:
        """The forecast and the klines before it as a Plotly figure."""
        forecast = _load_finished(stores, path.forecast_id)
        try:
            history = stores.klines.load(forecast.request.snapshot_id)
        except NotFoundError:
            history = None
        return conditional(make_response(forecast_figure(forecast, history)))


def finished(forecast: Forecast) -> ForecastAnswer:
    return ForecastAnswer(
        id=forecast.id, state="finished", position=None, labels=forecast_labels(forecast), forecast=forecast
    )


def find_forecast(stores: Stores, forecast_id: str) -> ForecastAnswer:
    """A forecast from the store, else how its job stands. Raises NotFoundError."""
    if stores.forecasts.exists(forecast_id):
        return finished(stores.forecasts.load(forecast_id))
    job = stores.queue.status(forecast_id)
    if job.state == "finished":  # it landed between the two looks, or retention has dropped it since
        return finished(stores.forecasts.load(forecast_id))
    return ForecastAnswer(**dict(job))


def _load_finished(stores: Stores, forecast_id: str) -> Forecast:
    """A finished forecast. Raises NotFoundError that tells one on its way from one that never was."""
    found = find_forecast(stores, forecast_id)
    if found.forecast is None:
        raise NotFoundError(f"Forecast {forecast_id} is {found.state}: it has no paths yet.")
    return found.forecast


def csv_rows(forecast: Forecast, paths: NDArray[np.float32]) -> Iterator[str]:
    """The paths (paths, horizon, columns) in long format, a chunk of lines for each path."""
    yield ",".join(["path", "step", "open_time", *forecast.paths.columns]) + "\n"
    times = np.array(forecast.open_times_ms, dtype="datetime64[ms]").astype("datetime64[s]").astype(str)
    for number, path in enumerate(paths):
        rows = path.astype(str)  # the shortest text that reads back as the same float32
        yield "".join(
            f"{number},{step},{time}Z,{','.join(row)}\n"
            for step, (time, row) in enumerate(zip(times, rows, strict=True), 1)
        )


def refuse_parameters(error: ValidationError) -> NoReturn:
    """What flask-openapi3 calls when a path or a query does not fit its model."""
    problem = error.errors()[0]
    name = str(problem["loc"][0])
    if error.title == ForecastPath.__name__:
        raise NotFoundError(
            f"There is no forecast {reprlib.repr(problem['input'])}: an id has letters, digits, _ and - only."
        )
    fields = ForecastsQuery.model_fields if error.title == ForecastsQuery.__name__ else SeriesQuery.model_fields
    if name not in fields:
        raise RequestError(f"{name!r} is no parameter here; known are {', '.join(fields)}.", field=name)
    raise RequestError(
        f"{name} is {reprlib.repr(problem['input'])}, but allowed is {describe_allowed(fields[name])}.", field=name
    )


def _json_body(limit: int) -> object:
    """The decoded body of at most `limit` bytes; an empty one is an empty wish. Raises Refused (400, 413 or 415)."""
    raw = request.stream.read(limit + 1)  # ours, since werkzeug cuts a body of unstated length at its limit in silence
    if len(raw) > limit:
        raise Refused(413, f"The body is larger than the {limit} bytes that are allowed (limits.max_body_bytes).")
    if len(raw) < (request.content_length or 0):
        raise Refused(
            400, f"The body ended after {len(raw)} of the {request.content_length} bytes that were announced."
        )
    if not raw.strip():
        return {}
    if not request.is_json:
        raise Refused(
            415,
            f"The body is {request.mimetype or 'of no stated type'}, but allowed is application/json: "
            f"send the header Content-Type: application/json.",
            field="Content-Type",
        )
    try:
        return json.loads(raw, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise Refused(400, f"The body is not valid JSON: {reason}.") from None


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")


def _no_forecast_yet(situation: Situation) -> str:
    return " ".join(
        [f"There is no forecast of {situation.symbol} {situation.interval} yet.", *why_no_forecast(situation)]
    )


def _json(answer: BaseModel, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    response = Response(answer.model_dump_json(), status, headers, mimetype="application/json")
    return conditional(response) if status == 200 else response
