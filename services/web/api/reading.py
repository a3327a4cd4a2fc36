"""Reading forecasts and how it stands with their series."""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import urlencode

from flask import Response
from flask_openapi3.blueprint import APIBlueprint

from services.web.api.answers import find_forecast, finished, json_answer
from services.web.api.computing import computed_quantiles
from services.web.api.contracts import (
    ForecastAnswer,
    ForecastPath,
    ForecastsAnswer,
    ForecastsQuery,
    LatestAnswer,
    LatestQuery,
    QuantilesQuery,
    SeriesAnswer,
    SeriesQuery,
    problems,
)
from services.web.situation import Situation, Stores, freshness, read_situation, why_no_forecast
from shared.errors import NotFoundError
from shared.freshness import as_of
from shared.kline_store import SeriesStatus, describe_missing_series
from shared.klines import Interval
from shared.settings import Settings


def add_reading(api: APIBlueprint, settings: Settings, stores: Stores, now_ms: Callable[[], int]) -> None:
    def series_of(query: SeriesQuery) -> tuple[str, Interval]:
        return query.symbol or settings.data.symbol, query.interval or settings.data.interval

    def known_series() -> list[SeriesStatus]:
        now = now_ms()
        return [as_of(one, now) for one in stores.klines.all_statuses()]

    @api.get("/forecasts", responses={200: ForecastsAnswer, **problems(404, 422)})
    def newest(query: ForecastsQuery) -> Response:
        """The newest forecasts of a series, those of the schedule and those that people asked for, page by page."""
        symbol, interval = series_of(query)
        page = stores.forecasts.page(symbol, interval, query.limit, query.cursor)
        if not page.forecasts and query.cursor is None and stores.klines.status(symbol, interval) is None:
            raise NotFoundError(describe_missing_series(symbol, interval, known_series()), field="symbol")
        following = {"symbol": symbol, "interval": interval.value, "limit": query.limit, "cursor": page.next}
        return json_answer(
            ForecastsAnswer(
                forecasts=[finished(forecast) for forecast in page.forecasts],
                next=f"{api.url_prefix}/forecasts?{urlencode(following)}" if page.next else None,
            )
        )

    @api.get("/forecasts/latest", responses={200: LatestAnswer, **problems(404, 422)})
    def latest(query: LatestQuery) -> Response:
        """The schedule's forecast for the newest candle, and whether it is as fresh as it should be."""
        now = now_ms()
        situation = read_situation(stores, *series_of(query), now)
        if situation.latest is None:
            raise NotFoundError(_no_forecast_yet(situation))
        fresh = freshness(situation, situation.latest, now)
        computed = computed_quantiles(stores, situation.latest, query)
        answer = {**dict(finished(situation.latest)), "computed": computed}
        return json_answer(LatestAnswer(**answer, freshness=fresh))

    @api.get("/forecasts/<forecast_id>", responses={200: ForecastAnswer, **problems(404, 422)})
    def one(path: ForecastPath, query: QuantilesQuery) -> Response:
        """One forecast: how it stands while it is on its way, then the forecast itself."""
        found = find_forecast(stores, path.forecast_id)
        if found.forecast is not None:
            found = found.model_copy(update={"computed": computed_quantiles(stores, found.forecast, query)})
        return json_answer(found)

    @api.get("/series", responses={200: SeriesAnswer, **problems()})
    def series() -> Response:
        """The series that are ingested, and how each stands now."""
        return json_answer(SeriesAnswer(series=known_series()))


def _no_forecast_yet(situation: Situation) -> str:
    return " ".join(
        [f"There is no forecast of {situation.symbol} {situation.interval} yet.", *why_no_forecast(situation)]
    )
