"""Streams of server-sent events: a series for as long as somebody looks, one forecast until it has ended."""

from __future__ import annotations

from collections.abc import Callable

from flask import Response
from flask_openapi3.blueprint import APIBlueprint

from services.web.api.answers import job_of
from services.web.api.contracts import ForecastPath, SeriesQuery, problems
from services.web.live import JobTopic, SeriesTopic, Watch
from services.web.problems import RETRY_AFTER_S, Refused
from services.web.situation import Stores
from services.web.streams import StreamResponse, Streams, Topic
from shared.errors import NotFoundError
from shared.kline_store import describe_missing_series
from shared.settings import Settings


def add_events(api: APIBlueprint, settings: Settings, stores: Stores, now_ms: Callable[[], int]) -> None:
    streams = Streams(Watch(stores, now_ms), settings.web.max_streams)

    def stream_of(topic: Topic) -> Response:
        if streams.full:
            raise Refused(
                503,
                f"{streams.most} event streams are open already, which is as many as may be (web.max_streams): "
                f"ask again later, or ask for the page itself from time to time.",
                headers={"Retry-After": str(RETRY_AFTER_S)},
            )
        return StreamResponse(streams, topic)

    changes = {"description": "event: change, with an etag that is another one whenever the page may be"}
    job = {
        "description": "event: job, with the forecast's JobStatus and, while it is on its way, how many workers are heard of; "
        "then event: end"
    }
    for described in (changes, job):
        described["content"] = {"text/event-stream": {"schema": {"type": "string"}}}  # type: ignore[assignment]

    @api.get("/events", responses={200: changes, **problems(404, 422)})
    def events(query: SeriesQuery) -> Response:
        """Server-sent events of a series: `change`, at once and whenever what its page shows may have changed.

        A comment every 15 s says that the stream is alive; it lasts until the client goes.
        """
        symbol, interval = query.symbol or settings.data.symbol, query.interval or settings.data.interval
        known = stores.klines.all_statuses()
        configured = (settings.data.symbol, settings.data.interval)  # it may be waited for before ingest has reported
        if (symbol, interval) not in {configured, *((one.symbol, one.interval) for one in known)}:
            raise NotFoundError(describe_missing_series(symbol, interval, known), field="symbol")
        return stream_of(SeriesTopic(symbol, interval))

    @api.get("/forecasts/<forecast_id>/events", responses={200: job, **problems(404)})
    def forecast_events(path: ForecastPath) -> Response:
        """Server-sent events of one forecast: `job` at once and whenever it moves, then `end`, and the stream is over."""
        job_of(stores, path.forecast_id)
        return stream_of(JobTopic(path.forecast_id))
