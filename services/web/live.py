"""What the streams tell: that a series' page may have changed, and how a forecast on its way stands.

Looks at the stores for services/web/streams.py, once for all who wait for the same. Knows no sockets.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from services.web.api.answers import job_of
from services.web.situation import Situation, Stores, freshness, read_situation
from services.web.streams import News, Topic, event
from shared.errors import KronosLiveError, NotFoundError
from shared.klines import Interval
from shared.logs import get_logger

log = get_logger(__name__)

ON_ITS_WAY = {"queued", "running"}


@dataclass(frozen=True)
class SeriesTopic:
    """Whatever the page of a series shows."""

    symbol: str
    interval: Interval


@dataclass(frozen=True)
class JobTopic:
    """One forecast until it has ended."""

    forecast_id: str


class Watch:
    """Reads the stores. Where they cannot be read that is news too: the page then says so."""

    def __init__(self, stores: Stores, now_ms: Callable[[], int]) -> None:
        self._stores = stores
        self._now_ms = now_ms
        self._told: dict[SeriesTopic, str] = {}  # the forecast that open pages of a series have last heard of

    def __call__(self, topics: Iterable[Topic]) -> Mapping[Topic, News]:
        news: dict[Topic, News] = {}
        waiting = list(topics)
        try:
            for topic in waiting:
                news[topic] = self._news(topic)
        except KronosLiveError as error:  # whoever is left would only wait for the same Redis
            away = News(event("change", {"etag": _short_hash(error.message), "problem": error.message}))
            news |= {topic: away for topic in waiting if topic not in news and isinstance(topic, SeriesTopic)}
        return news

    def _news(self, topic: Topic) -> News:
        match topic:
            case SeriesTopic(symbol, interval):
                now = self._now_ms()
                situation = read_situation(self._stores, symbol, interval, now)
                self._log_new(topic, situation)
                return News(_change(situation, now))
            case JobTopic(forecast_id):
                return self._job(forecast_id)
        raise TypeError(f"{topic!r} is nothing that can be watched")

    def _log_new(self, topic: SeriesTopic, situation: Situation) -> None:
        """The end of a forecast's way, which begins in the log of ingest, or of whom it was asked."""
        if situation.latest and self._told.get(topic) != situation.latest.id:
            self._told[topic] = situation.latest.id
            log.info("pages_told", forecast=situation.latest.id, series=f"{topic.symbol} {topic.interval}")

    def _job(self, forecast_id: str) -> News:
        try:
            job = job_of(self._stores, forecast_id)
        except NotFoundError as error:  # it has been forgotten since the stream began
            return News(event("end", {"id": forecast_id, "reason": error.message}), last=True)
        if job.state in ON_ITS_WAY:
            workforce = self._stores.queue.workforce_question(job.lane, self._now_ms())
            at_hand = self._stores.ask(workforce)[workforce].at_hand
            return News(event("job", {**job.model_dump(mode="json"), "workers": at_hand}))
        told = event("job", job.model_dump_json())
        return News(told + event("end", {"id": forecast_id, "state": job.state}), last=True)


def _change(situation: Situation, now_ms: int) -> str:
    """The event of a series; its etag is another one whenever the page may be."""
    latest = situation.latest
    fresh = freshness(situation, latest, now_ms) if latest else None
    shown = [
        *(series.model_dump_json() for series in situation.known_series),
        *situation.newest_ids,
        fresh.model_dump_json() if fresh else "",
        situation.coming.model_dump_json() if situation.coming else "",
        f"{situation.workers} workers, silent since {situation.silent_since}, {situation.queued} queued",
    ]
    return event(
        "change",
        {
            "etag": _short_hash("\n".join(shown)),
            "latest": latest.id if latest else None,
            "state": fresh.state if fresh else None,
            "workers": situation.workers,
            "queued": situation.queued,
        },
    )


def _short_hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
