"""What has followed a finished forecast, and which forecasts stand beside it."""

from __future__ import annotations

from collections.abc import Callable

from flask import Response
from flask_openapi3.blueprint import APIBlueprint

from services.web.api.answers import json_answer, load_finished
from services.web.api.contracts import ForecastPath, OutcomeAnswer, problems
from services.web.languages import in_english
from services.web.realised import realised
from services.web.situation import Stores
from shared.labels import forecast_labels
from shared.outcome import ledger_of, outcome_of


def add_outcome(api: APIBlueprint, stores: Stores, now_ms: Callable[[], int]) -> None:
    @api.get("/forecasts/<forecast_id>/outcome", responses={200: OutcomeAnswer, **problems(404)})
    def outcome(path: ForecastPath) -> Response:
        """The candles that closed after a forecast was made, how they lie in its bands, and the forecasts before and after.

        They come from the venue of the forecast's own klines, from what is still stored; live and simulated ones are never
        mixed. `closed` of `horizon` candles are over; a forecast of which none is says 0. `entry` has its scores, once they are
        written.
        """
        forecast = load_finished(stores, path.forecast_id)
        became = realised(stores, forecast, now_ms())
        entry = stores.forecasts.ledger.entry(*ledger_of(forecast), forecast.id)
        return json_answer(
            OutcomeAnswer(
                **dict(outcome_of(forecast, became.followed, became.closed, entry)),
                labels=forecast_labels(forecast),
                missing_because=in_english(became.why) or None,
                previous=became.beside.previous,
                next=became.beside.next,
            )
        )
