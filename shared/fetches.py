"""Fetches: klines of series that nobody ingests, asked for on a queue of their own that every ingest works.

A forecast that needs them joins its own queue when its fetch has ended, well or not (RQ's dependencies). All who ask for
the same candle of the same series share one fetch; one that has failed stands for nobody who asks later.

    kronos:fetch:<symbol>:<interval>:<candle>    id of the fetch that was last asked for it, for a day

The meta of a fetch's job says which snapshot it has brought and up to which candle, or why it failed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import cast
from uuid import uuid4

from redis import Redis
from redis.client import Pipeline
from rq import Queue, Retry
from rq.exceptions import NoSuchJobError
from rq.job import Job
from rq.job import JobStatus as RqStatus
from rq.serializers import JSONSerializer

from shared.errors import KlinesNotFetchedError
from shared.klines import Interval
from shared.queue_overview import JobCounts, WorkerStatus, counts_question, workers_question
from shared.queue_workers import names_question, release_abandoned
from shared.redis_connection import redis_errors_translated
from shared.redis_questions import Question, ask_together
from shared.settings import QueueSettings
from shared.venue_symbols import VenueSymbols

FETCH_JOB = "services.ingest.fetching.run_fetch"
FETCH_TIMEOUT_S = 90  # well beyond venues.search_seconds and the tries that a fetch makes
TRIES_WHERE_INGEST_DIED = 3
KEPT_S = 86_400
WAITING, FETCHING = "waiting for ingest", "fetching klines"

_ON_ITS_WAY = {RqStatus.QUEUED, RqStatus.STARTED, RqStatus.SCHEDULED}


@dataclass(frozen=True)
class Fetch:
    """Klines to bring: of one series, up to the candle that opened at `candle_ms` (UTC ms) and has closed."""

    symbol: str
    interval: Interval
    candle_ms: int

    @property
    def key(self) -> str:
        return f"kronos:fetch:{self.symbol}:{self.interval}:{self.candle_ms}"

    def new_id(self) -> str:
        candle = datetime.fromtimestamp(self.candle_ms / 1000, UTC)
        return f"fetch-{self.symbol}-{self.interval}-{candle:%Y%m%dT%H%M%SZ}-{uuid4().hex[:6]}"


@dataclass(frozen=True)
class Fetching:
    """A fetch that stands for what is asked; `snapshot_id` is what it has brought, none while that is still to come."""

    fetch_id: str
    snapshot_id: str | None


class Fetches:
    """The fetches that wait, run or have ended."""

    def __init__(self, redis: Redis, settings: QueueSettings) -> None:
        self._redis = redis
        self._settings = settings
        self.symbols = VenueSymbols(redis)  # which of them could come to anything
        self._queue = Queue(settings.ingest_name, connection=redis, serializer=JSONSerializer)

    @redis_errors_translated()
    def ingests(self) -> int:
        """How many that work the queue are alive."""
        question = self.ingests_question()
        return len(ask_together(self._redis, question)[question])

    def ingests_question(self) -> Question[list[str]]:
        """Their names, to be asked together with others."""
        return names_question(self._queue.name)

    @redis_errors_translated()
    def ingest_statuses(self, now_ms: int) -> list[WorkerStatus]:
        """Each ingest that works the queue: what it fetches and when it was last heard of; `now_ms` is UTC ms."""
        question = self.ingest_statuses_question(now_ms)
        return ask_together(self._redis, question)[question]

    def ingest_statuses_question(self, now_ms: int) -> Question[list[WorkerStatus]]:
        """The same, to be asked together with others."""
        return workers_question([self._queue.name], now_ms)

    def counts_question(self, now_ms: int) -> Question[JobCounts]:
        """How many fetches there are in each state; `now_ms` is UTC ms."""
        return counts_question(self._queue, now_ms)

    def find(self, pipe: Pipeline, fetch: Fetch) -> Fetching | None:
        """The fetch that stands for this one, if any. `pipe` watches from here on what the answer rests upon."""
        pipe.watch(fetch.key)  # type: ignore[no-untyped-call]
        fetch_id = cast("bytes | None", pipe.get(fetch.key))
        if fetch_id is None:
            return None
        pipe.watch(Job.key_for(fetch_id.decode()))  # type: ignore[no-untyped-call]
        job = _job(self._redis, fetch_id.decode())
        if job is None:
            return None
        if (status := job.get_status(refresh=False)) in _ON_ITS_WAY:
            return Fetching(job.id, None)
        brought = status == RqStatus.FINISHED and job.meta.get("last_open_time_ms", 0) >= fetch.candle_ms
        return Fetching(job.id, str(job.meta["snapshot_id"])) if brought else None

    def enqueue(self, pipe: Pipeline, fetch: Fetch) -> Fetching:
        """Put a fetch in the queue in the caller's transaction."""
        fetch_id = fetch.new_id()
        job = Queue.prepare_data(
            FETCH_JOB,
            args=(fetch.symbol, str(fetch.interval)),
            job_id=fetch_id,
            timeout=FETCH_TIMEOUT_S,
            result_ttl=KEPT_S,
            failure_ttl=KEPT_S,
            retry=Retry(max=TRIES_WHERE_INGEST_DIED),
            description=f"klines of {fetch.symbol} {fetch.interval}",
        )
        pipe.set(fetch.key, fetch_id, ex=KEPT_S)
        self._queue.enqueue_many([job], pipeline=pipe)
        return Fetching(fetch_id, None)

    @redis_errors_translated()
    def phase(self, fetch_id: str) -> str:
        """What those do that wait for a fetch which has not ended, in words."""
        job = _job(self._redis, fetch_id)
        return FETCHING if job is not None and job.get_status(refresh=False) == RqStatus.STARTED else WAITING

    @redis_errors_translated()
    def release_abandoned(self, is_gone: Callable[[str], bool]) -> list[str]:
        """Give back to the queue what ingests began that are gone (`queue_workers`); returns those fetches' ids."""
        return release_abandoned(self._queue, is_gone)


@redis_errors_translated()
def snapshot_of(redis: Redis, fetch_id: str) -> str:
    """The snapshot that a fetch has brought. Raises KlinesNotFetchedError that says why there is none."""
    job = _job(redis, fetch_id)
    if job is not None and (snapshot_id := job.meta.get("snapshot_id")):
        return str(snapshot_id)
    why = job.meta.get("error") if job is not None else None
    raise KlinesNotFetchedError(
        str(why or "The ingest that was to fetch the klines for this forecast ended before it had; ask for it again.")
    )


@redis_errors_translated()
def record_fetched(job: Job, snapshot_id: str, last_open_time_ms: int) -> None:
    """For a fetch that is about to end well: what it has brought, and up to which candle."""
    job.meta.update(snapshot_id=snapshot_id, last_open_time_ms=last_open_time_ms)
    job.save_meta()


def _job(redis: Redis, fetch_id: str) -> Job | None:
    try:
        return Job.fetch(fetch_id, connection=redis, serializer=JSONSerializer)
    except NoSuchJobError:
        return None
