"""The queue of backtests: moments of the past that workers forecast from when no forecast waits.

A backtest hands out a few moments at a time and collects what came of them; a job's id says all that decides its result,
so that a repeat is the same job. What a job needs and what came of it lie beside it in Redis for a while.

    kronos:backtest:<job id>         hash: the candles known at the moment (as in kline_store), until there is a line
    kronos:backtest-line:<job id>    the line that came of it (zlib of JSON)
"""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import cast

from redis import Redis
from rq import Queue, Retry
from rq.exceptions import DuplicateJobError, NoSuchJobError
from rq.job import Job
from rq.job import JobStatus as RqStatus
from rq.serializers import JSONSerializer

from shared.contract import JOB_VERSION, VERSION, Contract
from shared.errors import NotFoundError
from shared.forecasts import Forecast, ForecastRequest
from shared.kline_store import pack_window, unpack_window
from shared.klines import KlineWindow
from shared.ledger import LedgerEntry
from shared.lost_work import LostWork, put_back, taken_and_not_begun
from shared.queue_overview import Workforce, workforce_question
from shared.queue_workers import release_abandoned
from shared.redis_connection import redis_errors_translated
from shared.redis_questions import ask_together
from shared.settings import LANES, QueueSettings

BACKTEST_JOB = "services.inference.jobs.forecast_past"
KNOWN_TTL_S = 86_400  # longer than any of the few moments that are handed out at a time should wait
# For whoever handed out the moment to collect it, or to come back after an interruption; no longer, since workers with other
# weights may be started meanwhile, which the job's id does not tell.
LINE_TTL_S = 900
ENDED_JOB_TTL_S = 600  # shorter, so that a job that has ended well has its line
GONE = {RqStatus.FAILED, RqStatus.STOPPED, RqStatus.CANCELED}

# Takes a job out of the queue, unless a worker has begun it. The candles stay until they expire: another backtest may be
# handing out the same moment, and has stored them already.
_CALL_OFF = """
if redis.call('LREM', KEYS[1], 1, ARGV[1]) == 1 then redis.call('DEL', KEYS[2]) return 1 end
return 0
"""


class Line(Contract):
    """One forecast of a backtest, and its entry as it would stand in a ledger before any recalibration."""

    forecast: Forecast
    entry: LedgerEntry


@dataclass(frozen=True, eq=False)
class Moment:
    """A moment to forecast from: what was known then, what is asked, and the closes that followed, one for each step."""

    forecast_id: str
    request: ForecastRequest
    known: KlineWindow
    outcome: list[float]

    @property
    def job_id(self) -> str:
        """The same for the same question about the same candles: they are in the request by their hash."""
        asked = json.dumps([self.request.model_dump(mode="json"), self.outcome], sort_keys=True)
        return f"{self.forecast_id}-{hashlib.sha256(asked.encode()).hexdigest()[:12]}"


class BacktestQueue:
    """The moments that wait or are worked on, and the lines that came of them."""

    def __init__(self, redis: Redis, settings: QueueSettings) -> None:
        self._redis = redis
        self._settings = settings
        self._queues = {
            lane: Queue(settings.backtests_in(lane), connection=redis, serializer=JSONSerializer) for lane in LANES
        }
        self._call_off = redis.register_script(_CALL_OFF)

    @redis_errors_translated()
    def hand_out(self, moment: Moment) -> None:
        """Put a moment in the queue, unless it waits there, is worked on or has just been finished."""
        self._forget_failed(moment.job_id)
        with self._redis.pipeline() as pipe:
            pipe.hset(_known_key(moment.job_id), mapping=pack_window(moment.known))
            pipe.expire(_known_key(moment.job_id), KNOWN_TTL_S)
            pipe.execute()
        with suppress(DuplicateJobError):
            self._queue_of(moment.request.model).enqueue_call(
                BACKTEST_JOB,
                args=(moment.forecast_id, moment.request.model_dump(mode="json"), moment.outcome),
                job_id=moment.job_id,
                timeout=self._settings.job_timeout,
                result_ttl=ENDED_JOB_TTL_S,
                failure_ttl=self._settings.failure_ttl,
                retry=Retry(max=self._settings.retries) if self._settings.retries else None,
                description=f"backtest {moment.forecast_id}",
                meta={VERSION: JOB_VERSION},
                unique=True,
            )

    @redis_errors_translated()
    def collect(self, job_ids: Sequence[str]) -> list[tuple[str, Line]]:
        """The lines that have come of these jobs. They stay for whoever else handed out the same moments."""
        packed = cast("list[bytes | None]", self._redis.mget([_line_key(one) for one in job_ids])) if job_ids else []
        return [
            (job_id, Line.model_validate_json(zlib.decompress(raw)))
            for job_id, raw in zip(job_ids, packed, strict=True)
            if raw is not None
        ]

    @redis_errors_translated()
    def failed(self, job_ids: Sequence[str]) -> dict[str, str]:
        """Those of the jobs that have failed for good, each with its reason in one sentence."""
        return {
            job_id: str(job.meta.get("error") or "The worker stopped before the forecast was finished.")
            for job_id, job in self._jobs(job_ids).items()
            if job is not None and job.get_status(refresh=False) in GONE
        }

    @redis_errors_translated()
    def lost(self, job_ids: Sequence[str]) -> list[str]:
        """Those of which there is neither job nor line: called off by another backtest, or gone with Redis' memory."""
        without = [job_id for job_id, job in self._jobs(job_ids).items() if job is None]
        have_line = {job_id for job_id, _ in self.collect(without)}  # it may have come and its job gone meanwhile
        return [job_id for job_id in without if job_id not in have_line]

    @redis_errors_translated()
    def stranded(self, job_ids: Sequence[str]) -> set[str]:
        """Those that have left the queue and that no worker has begun: for a moment as one takes them, for good where Redis
        went away in that moment.
        """
        taken = {job_id for queue in self._queues.values() for job_id in taken_and_not_begun(queue)}
        return set(job_ids) & taken

    @redis_errors_translated()
    def put_back(self, job_ids: Sequence[str]) -> None:
        """Let those that are stranded wait again. Where a worker begins one after all it is made twice, to the same end."""
        for one in job_ids:
            for queue in self._queues.values():
                put_back(queue, one)

    @redis_errors_translated()
    def call_off(self, job_ids: Sequence[str]) -> int:
        """Take out of the queue what no worker has begun; returns how many."""
        keys = [queue.key for queue in self._queues.values()]
        return sum(int(self._call_off(keys=[key, Job.key_for(one)], args=[one])) for one in job_ids for key in keys)

    @redis_errors_translated()
    def workforce(self, model: str, now_ms: int) -> Workforce:
        """Who is there to make backtests of a model; `now_ms` is UTC ms."""
        question = workforce_question(self._queue_of(model).name, now_ms)
        return ask_together(self._redis, question)[question]

    @redis_errors_translated()
    def known(self, job_id: str) -> KlineWindow:
        """For a job: what is known at its moment. Raises NotFoundError where that has expired."""
        fields = cast("dict[bytes, bytes]", self._redis.hgetall(_known_key(job_id)))
        if not fields:
            raise NotFoundError(f"The candles of {job_id} are no longer there: run the backtest again.")
        return unpack_window(fields)

    @redis_errors_translated()
    def finish(self, job_id: str, line: Line) -> None:
        """For a job: keep the line that came of it."""
        with self._redis.pipeline(transaction=True) as pipe:
            pipe.set(_line_key(job_id), zlib.compress(line.model_dump_json().encode()), ex=LINE_TTL_S)
            pipe.delete(_known_key(job_id))
            pipe.execute()

    @redis_errors_translated()
    def is_finished(self, job_id: str) -> bool:
        return bool(self._redis.exists(_line_key(job_id)))

    @redis_errors_translated()
    def release_abandoned(self, is_gone: Callable[[str], bool]) -> list[str]:
        """Give back to the queue what workers began that are gone (`queue_workers`); returns those jobs' ids."""
        return [job_id for queue in self._queues.values() for job_id in release_abandoned(queue, is_gone)]

    def watches(self, is_gone: Callable[[str], bool]) -> list[LostWork]:
        """What finds the moments that lost workers were at, for each lane."""
        return [LostWork(queue, is_gone) for queue in self._queues.values()]

    def worker_command(self, model: str) -> str:
        """What starts a worker that makes backtests of a model."""
        return self._settings.worker_command(self._settings.lane_of(model))

    def _queue_of(self, model: str) -> Queue:
        return self._queues[self._settings.lane_of(model)]

    def _jobs(self, job_ids: Sequence[str]) -> dict[str, Job | None]:
        found = Job.fetch_many(job_ids, connection=self._redis, serializer=JSONSerializer) if job_ids else []
        return dict(zip(job_ids, found, strict=True))

    def _forget_failed(self, job_id: str) -> None:
        with suppress(NoSuchJobError):
            job = Job.fetch(job_id, connection=self._redis, serializer=JSONSerializer)
            if job.get_status(refresh=False) in GONE:
                job.delete()


def _known_key(job_id: str) -> str:
    return f"kronos:backtest:{job_id}"


def _line_key(job_id: str) -> str:
    return f"kronos:backtest-line:{job_id}"
