"""The pages for people: the latest forecast at /, and every forecast under its own address.

Each page is whole as it leaves the server, chart apart; the browser asks for it again and puts in what has changed.
What is said loudest is decided in notices.py; how it looks is in templates/ and static/.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

from flask import Blueprint, Response, make_response, render_template, request, url_for

from services.web import formats
from services.web.api.answers import find_forecast
from services.web.api.contracts import INTERVAL, SYMBOL
from services.web.asking_form import asking_form
from services.web.conditional import conditional
from services.web.live import ON_ITS_WAY
from services.web.monte_carlo import return_estimate, return_half_width
from services.web.notices import Notice, forecast_notices, job_notice, latest_notices, past_notice, worker_notice
from services.web.realised import Realised, realised
from services.web.record_page import add_record_page
from services.web.records import Records
from services.web.situation import Stores, freshness, next_update, read_situation
from services.web.wording import add_wording
from shared.errors import NotFoundError
from shared.forecasts import Forecast, JobStatus, forecaster_of
from shared.klines import Interval
from shared.prices import price
from shared.settings import Settings
from shared.track_record import FEWEST, TrackRecord

STATIC = Path(__file__).parent / "static"
# All that page.js imports, itself or through others; record.js is another page's, theme.js is no module.
PAGE_MODULES = sorted(
    script.name for script in STATIC.glob("*.js") if script.name not in {"page.js", "record.js", "theme.js"}
)
POLL_S = 15
POLL_WHILE_COMPUTING_S = 1
POLL_WITHOUT_FORECAST_S = 3
SPREADS_REMEMBERED = 256  # of a forecast's paths, which never change: a number each, in place of all paths at each look


def forecast_pages(settings: Settings, stores: Stores, records: Records, now_ms: Callable[[], int]) -> Blueprint:
    pages = Blueprint("pages", __name__)
    add_record_page(pages, stores, records, lambda: _series_asked_for(settings), now_ms)
    pages.add_app_template_filter(lambda at_ms: datetime.fromtimestamp(at_ms / 1000, UTC), "moment")
    as_numbers = (formats.percent, formats.fine_percent, formats.signed_percent, formats.error_interval)
    for show in (price, *as_numbers, formats.expected_return):
        pages.add_app_template_filter(show)
    add_wording(pages)

    @pages.get("/")
    def latest() -> Response:
        now = now_ms()
        situation = read_situation(stores, *_series_asked_for(settings), now)
        forecast = situation.latest
        fresh = freshness(situation, forecast, now) if forecast else None
        return page(
            now,
            symbol=situation.symbol,
            interval=situation.interval,
            forecast=forecast,
            next_update=next_update(situation, now),
            known_series=situation.known_series,
            events=url_for("api.events", symbol=situation.symbol, interval=situation.interval.value),
            asking=asking_form(settings),
            notices=latest_notices(situation, fresh),
            computing=situation.coming is not None and situation.coming.state in {"queued", "running"},
        )

    @pages.get("/forecasts/<forecast_id>")
    def one(forecast_id: str) -> Response:
        if not forecast_id.replace("-", "").replace("_", "").isalnum():
            raise NotFoundError(f"There is no forecast {forecast_id!r}.")
        found, now = find_forecast(stores, forecast_id), now_ms()
        return page(
            now,
            symbol=found.forecast.request.symbol if found.forecast else None,
            interval=found.forecast.request.interval if found.forecast else None,
            forecast=found.forecast,
            next_update=None,
            notices=[] if found.forecast else _job_notices(stores, found, now),
            computing=found.state in ON_ITS_WAY,
            events="" if found.forecast else url_for("api.forecast_events", forecast_id=forecast_id),
            by_itself=True,
        )

    def page(now: int, *, forecast: Forecast | None, computing: bool, **shown: Any) -> Response:
        without = POLL_S if forecast else POLL_WITHOUT_FORECAST_S
        poll_s = POLL_WHILE_COMPUTING_S if computing else without
        became = realised(stores, forecast, now) if forecast else None
        if forecast and became and shown.get("by_itself"):
            shown |= _of_one(forecast, became)
        spread = spread_of(forecast.id, forecast.created_at) if forecast else None
        estimate = return_estimate(forecast, spread) if forecast and spread is not None else None
        shown |= {"forecast": forecast, "became": became, "estimate": estimate, "poll_s": poll_s}
        shown["page_modules"] = PAGE_MODULES
        shown["checked"] = _checked(records, forecast) if forecast else None
        return conditional(make_response(render_template("forecast.html", **shown)))

    @lru_cache(maxsize=SPREADS_REMEMBERED)
    def spread_of(forecast_id: str, created_at: datetime) -> float | None:  # noqa: ARG001 - it tells apart what was made anew
        """None also where retention drops the paths between the two looks."""
        try:
            return return_half_width(stores.forecasts.load(forecast_id), stores.forecasts.load_paths(forecast_id))
        except NotFoundError:
            return None

    return pages


def _checked(records: Records, forecast: Forecast) -> TrackRecord | None:
    """The record of the forecasts that are made as this one is, where there are enough of them; none for uploads."""
    request, made_by = forecast.request, forecast.provenance
    if made_by.origin == "uploaded":
        return None
    forecaster = forecaster_of(request, made_by.model)
    record = records.read(request.symbol, request.interval, made_by.origin, forecaster).record
    return record if record and record.forecasts >= FEWEST else None


def _of_one(forecast: Forecast, became: Realised) -> dict[str, object]:
    """What the page of one forecast says of it: news come by its series, whose next candle may be one of its own."""
    request = forecast.request
    of_series = url_for("api.events", symbol=request.symbol, interval=request.interval.value)
    return {
        "notices": [*forecast_notices(forecast), *([past_notice()] if became.closed else [])],
        "events": of_series if became.series else "",
    }


def _job_notices(stores: Stores, job: JobStatus, now_ms: int) -> list[Notice]:
    """How a forecast stands that is not there; and that nobody is at hand to make it, where that is so."""
    if job.state not in ON_ITS_WAY:
        return [job_notice(job)]
    question = stores.queue.workforce_question(now_ms)
    workforce = stores.ask(question)[question]
    return [job_notice(job)] if workforce.at_hand else [worker_notice(workforce.silent_since), job_notice(job)]


def _series_asked_for(settings: Settings) -> tuple[str, Interval]:
    """The series that the address names, as far as it does. Raises NotFoundError where it names none that can be."""
    symbol, interval = request.args.get("symbol", settings.data.symbol), request.args.get("interval")
    if not re.fullmatch(r"[A-Z0-9]{2,20}", symbol):
        raise NotFoundError(f"symbol is {symbol[:40]!r}, but allowed is {SYMBOL}.")
    try:
        return symbol, Interval(interval) if interval else settings.data.interval
    except ValueError:
        raise NotFoundError(f"interval is {interval[:40] if interval else ''!r}, but allowed is {INTERVAL}.") from None
