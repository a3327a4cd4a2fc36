"""The pages for people: the latest forecast at /, and every forecast under its own address.

Each page is whole as it leaves the server, chart apart; the browser asks for it again and puts in what has changed.
Decides what is said loudest (the notices); how it looks is in templates/ and static/.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from flask import Blueprint, Response, g, make_response, render_template, request

from services.web import formats
from services.web.api.answers import find_forecast
from services.web.conditional import conditional
from services.web.languages import HTML_NAMES, LANGUAGES, language_of, translator
from services.web.monte_carlo import ReturnEstimate, return_estimate
from services.web.situation import (
    Freshness,
    Situation,
    Stores,
    freshness,
    next_update,
    read_situation,
    why_no_forecast,
)
from shared.errors import NotFoundError
from shared.forecasts import Band, Forecast, JobStatus, band_name, why_no_amplification
from shared.prices import price
from shared.settings import Settings

POLL_S = 15
POLL_WHILE_COMPUTING_S = 1
POLL_WITHOUT_FORECAST_S = 3

Tone = Literal["live", "stale", "simulated", "recorded", "bundled", "waiting", "failed", "worker"]


@dataclass(frozen=True)
class Notice:
    """One thing said in big letters, with the sentence below it."""

    tone: Tone
    title: str
    text: str
    since: datetime | None = None
    job: JobStatus | None = None


def forecast_pages(settings: Settings, stores: Stores, now_ms: Callable[[], int]) -> Blueprint:
    pages = Blueprint("pages", __name__)
    pages.add_app_template_filter(lambda at_ms: datetime.fromtimestamp(at_ms / 1000, UTC), "moment")
    for show in (
        band_name,
        band_words,
        why_no_amplification,
        price,
        formats.percent,
        formats.signed_percent,
        formats.error_interval,
        formats.span,
        formats.expected_return,
        return_words,
    ):
        pages.add_app_template_filter(show)

    pages.before_app_request(choose_language)
    pages.app_context_processor(
        lambda: {"t": g.say, "language": g.language, "languages": LANGUAGES, "html_language": HTML_NAMES[g.language]}
    )

    @pages.get("/")
    def latest() -> Response:
        now = now_ms()
        situation = read_situation(stores, settings.data.symbol, settings.data.interval, now)
        forecast = situation.latest
        fresh = freshness(situation, forecast, now) if forecast else None
        return _page(
            stores,
            symbol=situation.symbol,
            interval=situation.interval,
            forecast=forecast,
            next_update=next_update(situation, now),
            notices=latest_notices(situation, fresh),
            computing=situation.coming is not None and situation.coming.state != "failed",
        )

    @pages.get("/forecasts/<forecast_id>")
    def one(forecast_id: str) -> Response:
        if not forecast_id.replace("-", "").replace("_", "").isalnum():
            raise NotFoundError(f"There is no forecast {forecast_id!r}.")
        found = find_forecast(stores, forecast_id)
        return _page(
            stores,
            symbol=found.forecast.request.symbol if found.forecast else "Forecast",
            interval=found.forecast.request.interval if found.forecast else None,
            forecast=found.forecast,
            next_update=None,
            notices=forecast_notices(found.forecast) if found.forecast else [job_notice(found)],
            computing=found.state in {"queued", "running"},
        )

    return pages


def choose_language() -> None:
    g.language = language_of(request)
    g.say = translator(g.language)


def band_words(band: Band) -> str:
    """What a band is called, in the person's language."""
    return str(g.say("chart.range") if band.kind == "range" else g.say("chart.band", level=band.level))


def return_words(estimate: ReturnEstimate) -> str:
    return formats.return_interval(estimate.lower, estimate.upper)


def latest_notices(situation: Situation, fresh: Freshness | None) -> list[Notice]:
    """What the front page says loudest; `fresh` is None where there is no forecast yet."""
    notices = []
    if situation.latest is None or fresh is None:
        notices.append(Notice("waiting", "NO FORECAST YET", " ".join(why_no_forecast(situation))))
    else:
        notices += _state_notices(situation.latest, fresh)
    if not situation.workers:
        text = "Nothing computes forecasts at the moment. Start a worker with: kronos-live worker"
        notices.append(Notice("worker", "NO WORKER", text))
    if situation.coming is not None:
        notices.append(job_notice(situation.coming))
    return notices


def _state_notices(forecast: Forecast, fresh: Freshness) -> list[Notice]:
    made_of = forecast_notices(forecast)
    if fresh.state == "stale":
        return [Notice("stale", "STALE", fresh.reason or "", since=fresh.since), *made_of]
    if fresh.state == "live":
        venue = forecast.provenance.venue.capitalize()
        return [Notice("live", "LIVE", f"On the newest closed candle from {venue}."), *made_of]
    return made_of


def forecast_notices(forecast: Forecast) -> list[Notice]:
    """What must be said of a forecast wherever it is shown, because of what it was made of."""
    notices = []
    made = forecast.provenance
    if made.origin == "simulated":
        text = "No market venue answered, so these klines are made up. Nothing here says anything about a market."
        notices.append(Notice("simulated", "SIMULATED DATA", text))
    if made.origin == "recorded":
        notices.append(Notice("recorded", "RECORDED DATA", "Klines from a file; its last candle is taken as now."))
    if made.model.source == "bundled":
        stands_in = (
            f" stands in for {made.model_stands_in_for}, which could not be had" if made.model_stands_in_for else ""
        )
        text = f"{made.model.name}{stands_in}. It is small: expect less of it than of the published models."
        notices.append(Notice("bundled", "BUNDLED MODEL", text))
    return notices


def job_notice(job: JobStatus) -> Notice:
    """How a forecast on its way stands."""
    if job.state == "failed":
        return Notice("failed", "FORECAST FAILED", job.error or "", job=job)
    if job.state == "running":
        tried = f", try {job.tries}" if job.tries > 1 else ""
        return Notice("waiting", "COMPUTING A FORECAST", f"{job.id}{tried}", job=job)
    return Notice("waiting", "FORECAST QUEUED", f"{job.id}, {job.position or 0} before it in the queue.", job=job)


def _estimate(stores: Stores, forecast: Forecast | None) -> ReturnEstimate | None:
    """None also where retention drops the paths between the two looks."""
    try:
        return return_estimate(forecast, stores.forecasts.load_paths(forecast.id)) if forecast else None
    except NotFoundError:
        return None


def _page(stores: Stores, *, computing: bool, **shown: Any) -> Response:
    without = POLL_S if shown["forecast"] else POLL_WITHOUT_FORECAST_S
    poll_s = POLL_WHILE_COMPUTING_S if computing else without
    response = make_response(
        render_template("forecast.html", poll_s=poll_s, estimate=_estimate(stores, shown["forecast"]), **shown)
    )
    return conditional(response)
