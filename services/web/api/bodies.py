"""What comes with a request: a JSON body within its limits, and parameters that fit their models."""

from __future__ import annotations

import json
import reprlib
from typing import NoReturn

from flask import request
from pydantic import ValidationError

from services.web.api.contracts import (
    AskingQuery,
    FailedQuery,
    ForecastPath,
    ForecastsQuery,
    LatestQuery,
    LedgerPageQuery,
    LedgerQuery,
    OnePath,
    ProbabilityQuery,
    QuantileRowsQuery,
    QuantilesQuery,
    SeriesQuery,
    TrackRecordQuery,
)
from services.web.problems import Refused
from shared.errors import NotFoundError, RequestError
from shared.setting_kinds import describe_allowed

QUERIES = {
    model.__name__: model
    for model in (
        AskingQuery,
        SeriesQuery,
        ForecastsQuery,
        QuantilesQuery,
        QuantileRowsQuery,
        LatestQuery,
        ProbabilityQuery,
        LedgerQuery,
        LedgerPageQuery,
        TrackRecordQuery,
        FailedQuery,
    )
}


def refuse_parameters(error: ValidationError) -> NoReturn:
    """What flask-openapi3 calls when a path or a query does not fit its model."""
    problem = error.errors()[0]
    name = str(problem["loc"][0])
    if name == "number" and error.title == OnePath.__name__:
        raise NotFoundError(f"There is no path {reprlib.repr(problem['input'])}: paths are counted from 0.")
    if error.title in {ForecastPath.__name__, OnePath.__name__}:
        raise NotFoundError(
            f"There is no forecast {reprlib.repr(problem['input'])}: an id has letters, digits, _ and - only."
        )
    fields = QUERIES[error.title].model_fields
    if name not in fields:
        raise RequestError(f"{name!r} is no parameter here; known are {', '.join(fields)}.", field=name)
    raise RequestError(
        f"{name} is {reprlib.repr(problem['input'])}, but allowed is {describe_allowed(fields[name])}.", field=name
    )


def raw_body(limit: int) -> bytes:
    """The body of at most `limit` bytes. Raises Refused (400 or 413)."""
    raw = request.stream.read(limit + 1)  # ours, since werkzeug cuts a body of unstated length at its limit in silence
    if len(raw) > limit:
        raise Refused(413, f"The body is larger than the {limit} bytes that are allowed (limits.max_body_bytes).")
    if len(raw) < (request.content_length or 0):
        raise Refused(
            400, f"The body ended after {len(raw)} of the {request.content_length} bytes that were announced."
        )
    return raw


def decoded_json(raw: bytes) -> object:
    """What a body holds; an empty one is an empty wish. Raises Refused (400 or 415)."""
    if not raw.strip():
        return {}
    if not request.is_json:
        raise Refused(
            415,
            f"The body is {request.mimetype or 'of no stated type'}, but allowed is application/json, or text/csv "
            f"for candles: send the header Content-Type.",
            field="Content-Type",
        )
    try:
        return json.loads(raw, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise Refused(400, f"The body is not valid JSON: {reason}.") from None


def decoded_text(raw: bytes) -> str:
    """What a body of text holds. Raises Refused (400)."""
    try:
        return raw.decode("utf-8-sig")  # spreadsheets begin a file with a mark
    except UnicodeDecodeError as error:
        raise Refused(400, f"The body is not text in UTF-8: {error.reason} at byte {error.start}.") from None


def parameters() -> dict[str, str]:
    """The parameters of the address, each given once. Raises RequestError."""
    for name, values in request.args.lists():
        if len(values) > 1:
            raise RequestError(f"{name} is given {len(values)} times, but allowed is once.", field=name)
    return request.args.to_dict()


def refuse_all_parameters() -> None:
    """Raises RequestError where the address names any: beside a body of JSON nobody would read them."""
    for name in request.args:
        raise RequestError(
            f"{name} is given in the address, but that is read beside a body of text/csv only: put it into the body.",
            field=name,
        )


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")
