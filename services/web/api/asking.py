"""Asking for forecasts, and cancelling them.

What may be asked for is checked in shared/adhoc_forecasts.py, for the command line alike.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from flask import Response, request
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.data_type import DataType
from flask_openapi3.models.media_type import MediaType
from flask_openapi3.models.schema import Schema
from flask_openapi3.utils import parse_body
from pydantic import BaseModel, Field

from services.web.api.answers import json_answer
from services.web.api.bodies import decoded_json, decoded_text, parameters, raw_body, refuse_all_parameters
from services.web.api.contracts import (
    WRITE_TOKEN,
    AcceptedAnswer,
    AskedAnswer,
    AskingQuery,
    ForecastPath,
    PanelAnswer,
    PanelMember,
    problems,
)
from services.web.idempotency import answered_once
from services.web.situation import Stores
from services.web.write_access import check_write_access
from shared.adhoc_forecasts import ask_for_forecasts, cancel_forecast, read_csv_wishes, read_wishes
from shared.forecast_queue import Asked
from shared.forecasts import ForecastOverrides, JobStatus
from shared.logs import get_logger
from shared.settings import Settings

log = get_logger(__name__)

CSV = "text/csv"
CSV_BODY = (
    "candles, oldest first; the first line names open_time (UTC ms, or ISO 8601 with its offset as in 2025-01-01T00:00:00Z), "
    "open, high, low, close, volume and, if known, amount"
)
WRITING: list[dict[str, list[str]]] = [{}, {WRITE_TOKEN: []}]  # a token is asked for where one is configured


class AskingHeaders(BaseModel):
    key: str | None = Field(
        default=None,
        alias="Idempotency-Key",
        description="1 to 255 printable characters, new for each request: sent again with the same request within a day, it "
        "gets the same answer, and nothing is carried out twice; with another request it is refused (422)",
    )


def add_asking(api: APIBlueprint, settings: Settings, stores: Stores, now_ms: Callable[[], int]) -> None:
    _add_asking(api, settings, stores, now_ms)
    _add_cancelling(api, settings, stores)


def _described_bodies(api: APIBlueprint) -> dict[str, object]:
    """What may be sent: the handler reads it by itself, so the API description is told here."""
    content, schemas = parse_body(ForecastOverrides)
    api.components_schemas.update(schemas)
    csv = MediaType(schema=Schema(type=DataType.STRING, description=CSV_BODY))
    return {"requestBody": {"content": {**content, CSV: csv}, "required": False}}


def _add_asking(api: APIBlueprint, settings: Settings, stores: Stores, now_ms: Callable[[], int]) -> None:
    @api.post(
        "/forecasts",
        responses={200: AcceptedAnswer, 202: AcceptedAnswer, **problems(400, 401, 403, 409, 413, 415, 422, 429)},
        security=WRITING,
        openapi_extensions=_described_bodies(api),
    )
    def ask(header: AskingHeaders, query: AskingQuery) -> Response:  # noqa: ARG001 - they describe; what reads them is below
        """Ask for a forecast; an empty body asks for the configured one.

        It is computed by a worker; follow it at the address in Location. The same seed on the same snapshot gives the
        same paths. `symbols` asks for a panel: a forecast of each, all accepted or none, with the addresses in the
        body instead of a Location; a seed that is named is used for each.

        Any symbol of a venue may be asked for. Where nobody ingests it, ingest fetches its klines first: the forecast waits
        for that (`progress.phase` says so), joins the queue afterwards, and is labelled FETCHED ONCE, since no newer one
        follows. A fetch that comes to nothing makes it fail, with the reason. Where no ingest runs it is refused (422).

        `klines` brings candles of your own in place of a symbol, closed and without a gap. A body of text/csv does the
        same, with all other fields as parameters of the address, which belong to such a body alone. What comes of them is
        labelled UPLOADED DATA. Their times are UTC milliseconds, or ISO 8601 with an offset from UTC.

        What waits, runs or is finished with the same wishes on the same candle is given back instead of being computed
        again: then `reused` is true, and the status is 200 where nothing new was enqueued. A request that names no seed
        asks for any draw; name a seed to get another.
        """
        check_write_access(request, settings.web)
        raw = raw_body(settings.limits.max_body_bytes)
        return answered_once(request, raw, stores.queue.answers, lambda: asked(raw))

    def asked(raw: bytes) -> Response:
        wishes = _wishes(settings, raw)
        found = ask_for_forecasts(settings, stores.klines, stores.forecasts, stores.queue, wishes, now_ms())
        for one in found:
            log.info("forecast_asked", forecast=one.forecast_id, reused=one.reused)
        return _answer(stores, api.url_prefix or "", wishes, found)


def _add_cancelling(api: APIBlueprint, settings: Settings, stores: Stores) -> None:
    @api.delete(
        "/forecasts/<forecast_id>",
        responses={200: JobStatus, **problems(401, 403, 404, 409)},
        security=WRITING,
    )
    def cancel(path: ForecastPath) -> Response:
        """Cancel a forecast that waits or runs.

        One that waits leaves the queue at once. The worker of one that runs stops drawing within moments; where it
        draws others beside it, it goes on for those. Nothing of a cancelled forecast is stored. To cancel twice is to
        cancel once; what has finished or failed cannot be cancelled (409).
        """
        check_write_access(request, settings.web)
        return json_answer(cancel_forecast(stores.forecasts, stores.queue, path.forecast_id))


def _wishes(settings: Settings, raw: bytes) -> ForecastOverrides:
    """What the body of the request asks for. Raises RequestError, which names what is wrong."""
    if request.mimetype == CSV:
        return read_csv_wishes(settings, decoded_text(raw), parameters())
    refuse_all_parameters()
    return read_wishes(settings, decoded_json(raw))


def _answer(stores: Stores, prefix: str, wishes: ForecastOverrides, asked: Sequence[Asked]) -> Response:
    """How each stands that was asked for, and where to follow it: one in Location, those of a panel in the body."""
    status = 200 if all(one.reused for one in asked) else 202
    told = [
        {**dict(_how_it_stands(stores, one)), "reused": one.reused, "address": f"{prefix}/forecasts/{one.forecast_id}"}
        for one in asked
    ]
    if wishes.symbols is None:
        [only] = told
        location = only.pop("address")
        return json_answer(AskedAnswer(**only), status, {"Location": location})
    members = [PanelMember(**one, symbol=symbol) for symbol, one in zip(wishes.symbols, told, strict=True)]
    return json_answer(PanelAnswer(forecasts=members), status)


def _how_it_stands(stores: Stores, asked: Asked) -> JobStatus:
    if stores.forecasts.exists(asked.forecast_id):  # the queue need not know of it any more
        return JobStatus(id=asked.forecast_id, state="finished")
    return stores.queue.status(asked.forecast_id)
