"""What is computed from a finished forecast's paths when somebody asks: the probability of an event, any quantiles."""

from __future__ import annotations

from fractions import Fraction

from flask import Response
from flask_openapi3.blueprint import APIBlueprint

from services.web.api.answers import json_answer, load_finished
from services.web.api.contracts import (
    ComputedQuantiles,
    ForecastPath,
    ProbabilityAnswer,
    ProbabilityQuery,
    QuantilesQuery,
    problems,
)
from services.web.outcomes import (
    Event,
    ends_above,
    ends_below,
    ends_within,
    probability,
    returns_above,
    returns_below,
    touches,
    usable_paths,
)
from services.web.situation import Stores
from shared.errors import RequestError
from shared.forecasts import Band, Forecast, QuantileLine
from shared.labels import forecast_labels
from shared.statistics import Floats, quantile_band, quantile_lines

EVENTS = ("above", "below", "touch", "low", "high", "return_above", "return_below")


def add_computing(api: APIBlueprint, stores: Stores) -> None:
    @api.get("/forecasts/<forecast_id>/probability", responses={200: ProbabilityAnswer, **problems(404, 422)})
    def event_probability(path: ForecastPath, query: ProbabilityQuery) -> Response:
        """The share of paths in which an event happens, with the 95 % Wilson interval of its Monte-Carlo error.

        Name one event: above, below, touch, return_above, return_below, or low and high together. All but touch look at
        the close of one step; touch looks at the highs and lows of all steps up to it. It says how often the model's
        paths do so, which is not how often the market will.
        """
        forecast = load_finished(stores, path.forecast_id)
        event = _event(query, forecast)
        step = forecast.request.horizon if query.step is None else query.step
        if step > forecast.request.horizon:
            raise RequestError(
                f"step is {step}, but allowed is a whole number from 1 to {forecast.request.horizon}, this forecast's horizon.",
                field="step",
            )
        share = probability(event, stores.forecasts.load_paths(forecast.id), step)
        if share is None:
            raise RequestError(f"No path of forecast {forecast.id} is finite, so nothing can be counted.")
        return json_answer(
            ProbabilityAnswer(
                id=forecast.id,
                labels=forecast_labels(forecast),
                event=f"{forecast.request.symbol} {event.words} {'by' if query.touch is not None else 'at'} step {step}",
                step=step,
                open_time_ms=forecast.open_times_ms[step - 1],
                last_close=forecast.last_close,
                probability=share,
            )
        )


def _event(query: ProbabilityQuery, forecast: Forecast) -> Event:
    """The one event that a query names. Raises RequestError."""
    named = {name: value for name in EVENTS if (value := getattr(query, name)) is not None}
    match named:
        case {"low": low, "high": high} if len(named) == 2:
            if low > high:
                raise RequestError(
                    f"low is {low:.12g} and high is {high:.12g}, but low must not lie above.", field="low"
                )
            return ends_within(low, high)
        case {"above": price} if len(named) == 1:
            return ends_above(price)
        case {"below": price} if len(named) == 1:
            return ends_below(price)
        case {"touch": price} if len(named) == 1:
            return touches(price, forecast.last_close)
        case {"return_above": share} if len(named) == 1:
            return returns_above(share, forecast.last_close)
        case {"return_below": share} if len(named) == 1:
            return returns_below(share, forecast.last_close)
    raise RequestError(
        f"{' and '.join(named) or 'No event'} {'are' if len(named) > 1 else 'is'} named, but needed is one event: above, "
        f"below, touch, return_above or return_below, or low and high together.",
        field=next(iter(named), "above"),
    )


def computed_quantiles(stores: Stores, forecast: Forecast, query: QuantilesQuery) -> ComputedQuantiles | None:
    """What `quantiles` and `levels` ask for, of every column; none where neither is named."""
    if query.quantiles is None and query.levels is None:
        return None
    usable = usable_paths(stores.forecasts.load_paths(forecast.id))
    if not len(usable):
        raise RequestError(f"No path of forecast {forecast.id} is finite, so it has no quantiles.")
    columns = {name: usable[:, :, number] for number, name in enumerate(forecast.paths.columns)}
    return ComputedQuantiles(
        paths=len(usable),
        quantiles={name: lines(values, query.fractions()) for name, values in columns.items()}
        if query.quantiles
        else {},
        bands={name: _bands(values, query.percents()) for name, values in columns.items()} if query.levels else {},
    )


def lines(values: Floats, quantiles: list[Fraction]) -> list[QuantileLine]:
    """values [N, horizon], N at least 1."""
    return [
        QuantileLine(quantile=line.quantile, kind=line.kind, values=line.values.tolist())
        for line in quantile_lines(values, quantiles)
    ]


def _bands(values: Floats, levels: list[int]) -> list[Band]:
    bands = [quantile_band(values, level) for level in levels]
    return [Band(level=one.level, kind=one.kind, lower=one.lower.tolist(), upper=one.upper.tolist()) for one in bands]
