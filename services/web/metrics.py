"""/metrics: how it stands with series, forecasts, their track record and the queue, as Prometheus reads it.

docs/metrics.md has the table of what is told. A Redis that does not answer is told as `kronos_redis_up 0`, since a scrape
that fails would say the same of this service.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from importlib.metadata import version
from typing import get_args

from flask import Blueprint, Response

from services.web.record_metrics import RECORD_METRICS, SERIES, record_samples
from services.web.records import Records
from services.web.situation import Stores
from shared.errors import StoreUnavailableError
from shared.forecasts import Forecast
from shared.freshness import as_of, is_stale
from shared.kline_store import SeriesState, SeriesStatus
from shared.metrics import CONTENT_TYPE, Metric, Sample, exposition
from shared.queue_overview import JobCounts, WorkerStatus
from shared.series_record import ledger_in_use
from shared.settings import LANES, Settings

REDIS_UP = Metric("kronos_redis_up", "1 where Redis answers; where it is 0 nothing else is known.")
BUILD_INFO = Metric("kronos_build_info", "Always 1; the label says which version answers.", ("version",))
SERIES_STATE = Metric(
    "kronos_series_state", "1 for the state that an ingested series is in, 0 for the others.", (*SERIES, "state")
)
CANDLE_AGE = Metric(
    "kronos_candle_age_seconds",
    "Time since the newest known candle of a series closed; of recorded klines it grows for ever.",
    SERIES,
)
FORECAST_AGE = Metric("kronos_forecast_age_seconds", "Time since the latest forecast of the schedule was made.", SERIES)
FORECAST_STALE = Metric(
    "kronos_forecast_stale",
    "1 where that forecast should have been followed by another by now, or its klines are stale.",
    SERIES,
)
INTERVAL = Metric("kronos_interval_seconds", "Time from one candle of a series to the next.", SERIES)
JOBS = Metric(
    "kronos_queue_jobs",
    "Jobs of a queue by state. Queued ones include what is to be scored; failed ones are counted while their reason is kept.",
    ("queue", "state"),
)
OLDEST_JOB = Metric(
    "kronos_queue_oldest_job_age_seconds", "How long the next job of a queue has waited; 0 where none does.", ("queue",)
)
JOBS_LIMIT = Metric(
    "kronos_queue_jobs_limit",
    "Waiting forecasts, of both lanes together, from which on new requests are turned away (limits.max_queued).",
    ("queue",),
)
WORKERS = Metric(
    "kronos_workers",
    "Those that work a queue: alive, or silent where none of the last minute's signs of life came. Of the queue of fetches "
    "these are ingests.",
    ("queue", "state"),
)
HEARTBEAT_AGE = Metric(
    "kronos_worker_heartbeat_age_seconds",
    "Time since a worker, or an ingest that takes fetches, last gave a sign of life; one that ended well is told no longer.",
    ("queue", "worker"),
)
METRICS = (
    REDIS_UP,
    BUILD_INFO,
    SERIES_STATE,
    CANDLE_AGE,
    FORECAST_AGE,
    FORECAST_STALE,
    INTERVAL,
    *RECORD_METRICS,
    JOBS,
    OLDEST_JOB,
    JOBS_LIMIT,
    WORKERS,
    HEARTBEAT_AGE,
)
RECORDS_WITHIN_S = 1.0  # of computing in one scrape: Prometheus gives up after ten seconds


def metrics_page(settings: Settings, stores: Stores, records: Records, now_ms: Callable[[], int]) -> Blueprint:
    pages = Blueprint("metrics", __name__)

    @pages.get("/metrics")
    def metrics() -> Response:
        answer = Response(exposition(lambda: samples(settings, stores, records, now_ms())), content_type=CONTENT_TYPE)
        answer.headers["Cache-Control"] = "no-store"
        return answer

    return pages


def samples(settings: Settings, stores: Stores, records: Records, now_ms: int) -> list[Sample]:
    """All that there is to tell at `now_ms` (UTC ms), in three round trips and what reading new entries takes."""
    build = BUILD_INFO.of(1, version("kronos-live"))
    try:
        told = list(_told(settings, stores, records, now_ms))
    except StoreUnavailableError:
        return [REDIS_UP.of(0), build]
    return [REDIS_UP.of(1), build, *told]


def _told(settings: Settings, stores: Stores, records: Records, now_ms: int) -> Iterator[Sample]:
    statuses, queue, fetches = stores.klines.statuses_question(), stores.queue, stores.queue.fetches
    jobs, to_fetch = (
        {lane: queue.counts_question(lane, now_ms) for lane in LANES},
        fetches.counts_question(now_ms),
    )
    workers, ingests = queue.worker_statuses_question(now_ms), fetches.ingest_statuses_question(now_ms)
    answers = stores.ask(statuses, *jobs.values(), to_fetch, workers, ingests)
    series = [as_of(one, now_ms) for one in answers[statuses]]
    yield from _series(stores, series, now_ms)
    for record in records.read_all(
        [(one.symbol, one.interval, ledger_in_use(one)) for one in series], RECORDS_WITHIN_S
    ):
        yield from record_samples(record)
    for lane, counts in jobs.items():
        if lane not in queue.lanes and not answers[counts].unfinished:
            continue  # nothing was ever led there, or no more
        name = settings.queue.forecasts_in(lane)
        yield from _queue(name, answers[counts], [one for one in answers[workers] if name in one.queues])
    yield from _queue(settings.queue.ingest_name, answers[to_fetch], answers[ingests])
    yield JOBS_LIMIT.of(settings.limits.max_queued, settings.queue.name)


def _series(stores: Stores, series: list[SeriesStatus], now_ms: int) -> Iterator[Sample]:
    questions = [stores.forecasts.latest_question(one.symbol, one.interval) for one in series]
    answers = stores.ask(*questions)
    for one, question in zip(series, questions, strict=True):
        latest = answers[question][one.origin] if one.origin else None
        yield from _one_series(one, latest, now_ms)


def _one_series(series: SeriesStatus, latest: Forecast | None, now_ms: int) -> Iterable[Sample]:
    labels = (series.symbol, series.interval, series.origin or "none")
    yield INTERVAL.of(series.interval.ms / 1000, *labels)
    yield from SERIES_STATE.one_of(get_args(SeriesState), series.state, *labels)
    if series.last_open_time_ms is not None:
        yield CANDLE_AGE.of((now_ms - series.last_open_time_ms - series.interval.ms) / 1000, *labels)
    if latest is not None:
        yield FORECAST_AGE.of(now_ms / 1000 - latest.created_at.timestamp(), *labels)
        yield FORECAST_STALE.of(is_stale(series, latest, now_ms), *labels)


def _queue(name: str, jobs: JobCounts, workers: list[WorkerStatus]) -> Iterable[Sample]:
    yield JOBS.of(jobs.queued, name, "queued")
    yield JOBS.of(jobs.waiting_for_klines, name, "waiting for klines")
    yield JOBS.of(jobs.running, name, "running")
    yield JOBS.of(jobs.failed, name, "failed")
    yield OLDEST_JOB.of(jobs.oldest_age_s, name)
    silent = sum(one.silent for one in workers)
    yield WORKERS.of(len(workers) - silent, name, "alive")
    yield WORKERS.of(silent, name, "silent")
    for one in workers:
        yield HEARTBEAT_AGE.of(one.heartbeat_age_s, name, one.name)
