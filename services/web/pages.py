"""The pages for people: the latest forecast at /, and every forecast under its own address.

Each page is whole as it leaves the server, chart apart; the browser asks for it again and puts in what has changed.
What is said loudest is decided in notices.py; how it looks is in templates/ and static/.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from flask import Blueprint, Response, request, url_for

from services.web import formats
from services.web.api.answers import find_forecast
from services.web.api.contracts import INTERVAL, SYMBOL
from services.web.asking_form import asking_form
from services.web.forecast_page import ForecastPage
from services.web.live import ON_ITS_WAY
from services.web.notices import Notice, forecast_notices, job_notice, latest_notices, past_notice, worker_notice
from services.web.realised import realised
from services.web.record_page import add_record_page
from services.web.records import Records
from services.web.situation import Stores, freshness, next_update, read_situation
from services.web.wording import add_wording
from shared.errors import NotFoundError
from shared.forecasts import FORECAST_ID, Forecast, JobStatus
from shared.klines import Interval
from shared.prices import price
from shared.settings import Settings


def forecast_pages(settings: Settings, stores: Stores, records: Records, now_ms: Callable[[], int]) -> Blueprint:
    """The blueprint of all pages that show a forecast or the record of forecasts."""
    pages = Blueprint("pages", __name__)
    page = ForecastPage(stores, calibrates=settings.calibration.enabled)
    _add_formats(pages)
    add_wording(pages)
    add_record_page(pages, stores, records, lambda: _series_asked_for(settings), now_ms)

    @pages.get("/")
    def latest() -> Response:
        return _latest(settings, stores, records, page, now_ms())

    @pages.get("/forecasts/<forecast_id>")
    def one(forecast_id: str) -> Response:
        if not re.fullmatch(FORECAST_ID, forecast_id):
            raise NotFoundError(f"There is no forecast {forecast_id!r}.")
        found, now = find_forecast(stores, forecast_id), now_ms()
        if found.forecast is None:
            return _coming(stores, page, found, now)
        return _one(stores, records, page, found.forecast, now)

    return pages


def _add_formats(pages: Blueprint) -> None:
    pages.add_app_template_filter(lambda at_ms: datetime.fromtimestamp(at_ms / 1000, UTC), "moment")
    as_numbers = (formats.percent, formats.fine_percent, formats.signed_percent, formats.error_interval)
    for show in (price, *as_numbers, formats.expected_return):
        pages.add_app_template_filter(show)


def _latest(settings: Settings, stores: Stores, records: Records, page: ForecastPage, now_ms: int) -> Response:
    """The newest forecast of the series that the address names, and how the series stands."""
    situation = read_situation(stores, *_series_asked_for(settings), now_ms)
    forecast = situation.latest
    found = records.of_forecast(forecast) if forecast else None
    fresh = freshness(situation, forecast, now_ms) if forecast else None
    shown: dict[str, Any] = {
        "symbol": situation.symbol,
        "interval": situation.interval,
        "next_update": next_update(situation, now_ms),
        "known_series": situation.known_series,
        "events": url_for("api.events", symbol=situation.symbol, interval=situation.interval.value),
        "asking": asking_form(settings),
        "notices": latest_notices(situation, fresh, found.record if found else None),
        "computing": situation.coming is not None and situation.coming.state in {"queued", "running"},
    }
    if forecast is None:
        return page.without(**shown)
    return page.of(forecast, realised(stores, forecast, now_ms), found, **shown)


def _one(stores: Stores, records: Records, page: ForecastPage, forecast: Forecast, now_ms: int) -> Response:
    """One forecast by itself: news come by its series, whose next candle may be one of its own."""
    asked = forecast.request
    became = realised(stores, forecast, now_ms)
    of_series = url_for("api.events", symbol=asked.symbol, interval=asked.interval.value)
    return page.of(
        forecast,
        became,
        records.of_forecast(forecast),
        symbol=asked.symbol,
        interval=asked.interval,
        notices=[*forecast_notices(forecast), *([past_notice()] if became.closed else [])],
        events=of_series if became.series else "",
        computing=False,
        by_itself=True,
    )


def _coming(stores: Stores, page: ForecastPage, job: JobStatus, now_ms: int) -> Response:
    """A forecast that is not there: on its way, failed or cancelled."""
    return page.without(
        symbol=None,
        interval=None,
        notices=_job_notices(stores, job, now_ms),
        events=url_for("api.forecast_events", forecast_id=job.id),
        computing=job.state in ON_ITS_WAY,
        by_itself=True,
    )


def _job_notices(stores: Stores, job: JobStatus, now_ms: int) -> list[Notice]:
    """How a forecast stands that is not there; and that nobody is at hand to make it, where that is so."""
    if job.state not in ON_ITS_WAY:
        return [job_notice(job)]
    question = stores.queue.workforce_question(job.lane, now_ms)
    workforce = stores.ask(question)[question]
    return (
        [job_notice(job)]
        if workforce.at_hand
        else [worker_notice(job.lane, workforce.silent_since, stores.queue.worker_command(job.lane)), job_notice(job)]
    )


def _series_asked_for(settings: Settings) -> tuple[str, Interval]:
    """The series that the address names, as far as it does. Raises NotFoundError where it names none that can be."""
    symbol, interval = request.args.get("symbol", settings.data.symbol), request.args.get("interval")
    if not re.fullmatch(r"[A-Z0-9]{2,20}", symbol):
        raise NotFoundError(f"symbol is {symbol[:40]!r}, but allowed is {SYMBOL}.")
    try:
        return symbol, Interval(interval) if interval else settings.data.interval
    except ValueError:
        raise NotFoundError(f"interval is {interval[:40] if interval else ''!r}, but allowed is {INTERVAL}.") from None
