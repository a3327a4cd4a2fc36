"""How it stands with one series: its klines, its latest forecast, the next one on its way, and how fresh all that is.

Read from the stores in one place, so that the page, the API and /readyz never disagree. Knows no HTTP.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal, cast

from pydantic import Field

from services.web.languages import Saying, in_english
from shared.contract import Contract
from shared.errors import NotFoundError
from shared.forecast_queue import ForecastQueue
from shared.forecast_store import ForecastStore
from shared.forecasts import Forecast, JobStatus, scheduled_forecast_id
from shared.freshness import as_of, ingest_is_silent, is_stale, successor_due_ms
from shared.kline_store import KlineStore, SeriesStatus, describe_missing_series
from shared.klines import IngestedOrigin, Interval, utc
from shared.redis_questions import Answers, Question
from shared.settings import LANES, Lane


class Freshness(Contract):
    """Whether a forecast is the one that should be shown now."""

    state: Literal["live", "recorded", "simulated", "stale"]
    since: datetime | None = Field(description="when stale: since when a newer forecast has been due")
    reason: str | None = Field(description="when stale: why there is no newer one")
    next_update: datetime | None = Field(description="when the next candle will be fetched")


@dataclass(frozen=True)
class Stores:
    """The only ways from the web service to the rest of the house."""

    klines: KlineStore
    forecasts: ForecastStore
    queue: ForecastQueue

    def ask(self, *questions: Question[Any]) -> Answers:
        """All of them in one round trip: the stores stand on one Redis. Raises StoreUnavailableError."""
        return self.queue.ask(*questions)


@dataclass(frozen=True)
class Situation:
    """What the stores say of one series at one moment; its state is already that of the moment."""

    symbol: str
    interval: Interval
    series: SeriesStatus | None
    known_series: list[SeriesStatus]
    latest: Forecast | None
    coming: JobStatus | None  # the schedule's forecast for the newest candle, while it is not there yet
    workers: int  # that gave a sign of life lately, of those that make this series' forecasts
    queued: int = 0  # forecasts that none of those has taken up yet
    newest_ids: tuple[str, ...] = ()  # of the schedule and of people: another one is there when any forecast was added
    silent_since: datetime | None = None  # where there are workers, but none gave a sign of life since
    lane: Lane = "light"  # that those workers serve
    worker_command: str = "kronos-live worker"  # that starts one of them


def read_situation(stores: Stores, symbol: str, interval: Interval, now_ms: int) -> Situation:
    """How it stands at `now_ms`, UTC ms: in one round trip, and a second while a forecast is on its way.

    Raises StoreUnavailableError.
    """
    statuses = stores.klines.statuses_question()
    latest_by_origin = stores.forecasts.latest_question(symbol, interval)
    newest_ids = stores.forecasts.newest_ids_question(symbol, interval)
    workforces = {lane: stores.queue.workforce_question(lane, now_ms) for lane in LANES}
    waiting = {lane: stores.queue.waiting_in_question(lane) for lane in LANES}
    answers = stores.ask(statuses, latest_by_origin, newest_ids, *waiting.values(), *workforces.values())

    known = [as_of(series, now_ms) for series in answers[statuses]]
    series = next((one for one in known if (one.symbol, one.interval) == (symbol, interval)), None)
    latest = answers[latest_by_origin][series.origin] if series and series.origin else None
    coming = _coming(stores.queue, series, latest)
    at_hand = {lane: answers[question].at_hand for lane, question in workforces.items()}
    lane = _lane(stores.queue, coming, latest, at_hand)
    workforce = answers[workforces[lane]]
    return Situation(
        symbol,
        interval,
        series,
        known,
        latest,
        coming,
        workforce.at_hand,
        answers[waiting[lane]],
        answers[newest_ids],
        workforce.silent_since,
        lane,
        stores.queue.worker_command(lane),
    )


def _lane(queue: ForecastQueue, coming: JobStatus | None, latest: Forecast | None, at_hand: Mapping[Lane, int]) -> Lane:
    """Whose workers a series waits for: those of its next forecast, else of its latest, else whoever is there."""
    if coming is not None:
        return coming.lane
    return queue.lane_of(latest.request.model) if latest else max(LANES, key=lambda lane: at_hand[lane])


def _coming(queue: ForecastQueue, series: SeriesStatus | None, latest: Forecast | None) -> JobStatus | None:
    if series is None or series.last_open_time_ms is None or series.origin is None:
        return None
    if latest is not None and latest.last_open_time_ms >= series.last_open_time_ms:
        return None
    try:
        newest = scheduled_forecast_id(series.symbol, series.interval, series.last_open_time_ms, series.origin)
        job = queue.status(newest)
    except NotFoundError:
        return None
    return job if job.state != "finished" else None


def freshness(situation: Situation, latest: Forecast, now_ms: int) -> Freshness:
    """How fresh the latest forecast of a series is. A recording's clock stands still, so it never grows old."""
    series, due_ms, next_at = situation.series, successor_due_ms(latest), next_update(situation, now_ms)
    if is_stale(series, latest, now_ms):
        since_ms = due_ms if due_ms <= now_ms or series is None else series.checked_at_ms
        reason = in_english(why_nothing_newer(situation, latest))
        return Freshness(state="stale", since=_moment(since_ms), reason=reason, next_update=next_at)
    origin = cast("IngestedOrigin", latest.provenance.origin)  # the schedule's: it follows no others
    return Freshness(state=origin, since=None, reason=None, next_update=next_at)


def next_update(situation: Situation, now_ms: int) -> datetime | None:
    """When the next candle will be fetched; None where nobody is there to do so."""
    series = situation.series
    return None if series is None or ingest_is_silent(series, now_ms) else _moment(series.next_fetch_at_ms)


def why_nothing_newer(situation: Situation, latest: Forecast) -> list[Saying]:
    """In sentences, what holds up the forecast that should have followed the latest."""
    series = situation.series
    if series is None:
        return [Saying("why.no_ingest")]
    if series.state == "stale":
        return [_as_told(series.problem) or Saying("why.no_newer_klines")]
    if series.last_open_time_ms is None or series.last_open_time_ms <= latest.last_open_time_ms:
        return [Saying("why.no_newer_candle", {"when": utc(series.checked_at_ms)})]
    return _what_holds_up(situation)


def what_is_missing(situation: Situation) -> list[Saying]:
    """In sentences, what is missing where a series has no forecast yet."""
    series = situation.series
    if series is None:
        missing = describe_missing_series(situation.symbol, situation.interval, situation.known_series)
        return [
            Saying("why.raw", {"text": missing}),
            *([] if situation.known_series else [Saying("why.ingest_silent")]),
        ]
    if series.snapshot_id is None:
        none_yet = Saying("why.no_klines", {"symbol": series.symbol, "interval": series.interval})
        return [_as_told(series.problem) or none_yet]
    return _what_holds_up(situation)


def why_no_forecast(situation: Situation) -> list[str]:
    """`what_is_missing` for programs, in English."""
    return [in_english([saying]) for saying in what_is_missing(situation)]


def _as_told(problem: str | None) -> Saying | None:
    """What another service has said, which is in English."""
    return Saying("why.raw", {"text": problem}) if problem else None


def why_no_worker(situation: Situation) -> list[Saying]:
    """In a sentence, why nobody computes; empty where somebody does."""
    if situation.workers:
        return []
    if situation.silent_since:
        return [Saying("why.worker_silent", {"when": utc(round(situation.silent_since.timestamp() * 1000))})]
    key = "why.no_worker" if situation.lane == "light" else "why.no_heavy_worker"
    return [Saying(key, {"command": situation.worker_command})]


def _what_holds_up(situation: Situation) -> list[Saying]:
    sayings = why_no_worker(situation)
    match situation.coming:
        case None:
            sayings.append(Saying("why.not_asked"))
        case JobStatus(state="failed", error=error):
            sayings.append(Saying("why.failed", {"error": error}))
        case JobStatus(state="cancelled"):
            sayings.append(Saying("why.cancelled"))
        case JobStatus(state="running"):
            sayings.append(Saying("why.running"))
        case JobStatus(position=position):
            sayings.append(Saying("why.queued", {"position": position or 0}))
    return sayings


def _moment(at_ms: int) -> datetime:
    return datetime.fromtimestamp(at_ms / 1000, UTC)
