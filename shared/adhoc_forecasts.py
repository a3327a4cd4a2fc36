"""A forecast that a person asks for: their wishes checked against what can be had, then put in the queue.

One story for the API and the command line, so that both refuse the same things in the same words.
"""

from __future__ import annotations

import json
import reprlib
import secrets

from pydantic import ValidationError

from shared.errors import QueueFullError, RequestError, UnknownSeriesError
from shared.forecast_queue import ForecastQueue
from shared.forecasts import SEED_LIMIT, ForecastOverrides, adhoc_forecast_id, build_request
from shared.kline_store import KlineStore, describe_missing_series
from shared.settings import Settings, describe_allowed

SHORTEST_HISTORY = 64  # candles that `overflow: trim` always leaves to the model


def read_wishes(values: object) -> ForecastOverrides:
    """Turn decoded JSON into wishes. Raises RequestError that names the first wrong field, its value and what is allowed."""
    try:
        return ForecastOverrides.model_validate_json(json.dumps(values), strict=True)  # true is not 1, nor is "1"
    except ValidationError as error:
        raise request_error(error) from None


def request_error(error: ValidationError) -> RequestError:
    """The first problem of a validation, in words."""
    problem = error.errors()[0]
    name = str(problem["loc"][0]) if problem["loc"] else ""
    fields = ForecastOverrides.model_fields
    if name not in fields:
        allowed = ", ".join(fields)
        what = f"{reprlib.repr(name)} is not something to ask for" if name else "A request must be a JSON object"
        return RequestError(f"{what}; what can be set is {allowed}.", field=name or None)
    return RequestError(
        f"{name} is {reprlib.repr(problem['input'])}, but allowed is {describe_allowed(fields[name])}.", field=name
    )


def ask_for_forecast(settings: Settings, klines: KlineStore, queue: ForecastQueue, wishes: ForecastOverrides) -> str:
    """Enqueue a forecast on the newest snapshot of its series and return its id.

    Raises UnknownSeriesError where the series is not ingested, RequestError where it cannot be done, QueueFullError.
    """
    _check_limits(settings, wishes)
    symbol = wishes.symbol or settings.data.symbol
    interval = wishes.interval or settings.data.interval
    series = klines.status(symbol, interval)
    if series is None or series.snapshot_id is None:
        raise UnknownSeriesError(describe_missing_series(symbol, interval, klines.all_statuses()), field="symbol")
    waiting = queue.waiting()
    if waiting >= settings.limits.max_queued:
        raise QueueFullError(
            f"{waiting} forecasts wait already, which is the most (limits.max_queued): try again later."
        )
    request = build_request(settings, wishes, series.snapshot_id, scheduled=False, seed=secrets.randbelow(SEED_LIMIT))
    forecast_id = adhoc_forecast_id()
    queue.enqueue(forecast_id, request)
    return forecast_id


def _check_limits(settings: Settings, wishes: ForecastOverrides) -> None:
    limits = settings.limits
    longest = settings.model.max_context - SHORTEST_HISTORY
    if wishes.history is not None and wishes.history > limits.max_history:
        raise RequestError(
            f"history is {wishes.history}, but allowed is 64 to {limits.max_history} candles (limits.max_history).",
            field="history",
        )
    if wishes.num_samples is not None and wishes.num_samples > limits.max_num_samples:
        raise RequestError(
            f"num_samples is {wishes.num_samples}, but allowed is 1 to {limits.max_num_samples} paths (limits.max_num_samples).",
            field="num_samples",
        )
    if settings.model.overflow == "trim" and wishes.horizon is not None and wishes.horizon > longest:
        raise RequestError(
            f"horizon is {wishes.horizon}, but allowed is 1 to {longest} candles: the model reads {settings.model.max_context} "
            f"(model.max_context), of which history keeps {SHORTEST_HISTORY}.",
            field="horizon",
        )
