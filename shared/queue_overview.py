"""How it stands with the queue and its workers, read from RQ's books in one look each.

Only reads; what is written there is RQ's, and the worker's word on its model (`MODEL_FIELD`). Times are UTC.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from pydantic import Field, ValidationError
from rq import Queue
from rq.executions import WORKER_EXECUTIONS_KEY_TEMPLATE
from rq.job import Job
from rq.worker_registration import WORKERS_BY_QUEUE_KEY

from shared.contract import Contract
from shared.forecasts import ModelSource, Progress
from shared.redis_questions import Question

MODEL_FIELD = "kronos_model"  # in a worker's registration: a LoadedModel as JSON
SIGN_OF_LIFE_EVERY_S = 20.0  # from a worker that waits for a job, and from one that is at it, with its progress
SILENT_AFTER_S = 60.0  # since a worker's last sign of life: it has been killed, hangs, or loads another model

_EXECUTIONS_SUFFIX = WORKER_EXECUTIONS_KEY_TEMPLATE.partition("{0}")[2]  # of a worker's key: what it is at

# RQ keeps a killed worker in its list, but lets its registration expire.
_WORKERS = """
local found = {}
for _, key in ipairs(redis.call('SUNION', unpack(KEYS))) do
  local fields = redis.call('HMGET', key, 'birth', 'last_heartbeat', 'state', 'hostname', 'pid', 'successful_job_count',
    'failed_job_count', 'queues', ARGV[1])
  if fields[1] then found[#found + 1] = {key, fields, redis.call('SMEMBERS', key .. ARGV[2])} end
end
return found
"""

_HEARTBEATS = """
local found = {}
for _, key in ipairs(redis.call('SMEMBERS', KEYS[1])) do
  local fields = redis.call('HMGET', key, 'birth', 'last_heartbeat')
  if fields[1] then found[#found + 1] = fields[2] or fields[1] end
end
return found
"""

# The jobs of a list of executions (job:execution), each with what its hash says.
_QUEUE = """
local head = redis.call('LINDEX', KEYS[1], 0)
local since = head and redis.call('HGET', ARGV[1] .. head, 'enqueued_at')
local running = {}
for _, execution in ipairs(redis.call('ZRANGE', KEYS[2], 0, -1)) do
  local id = string.match(execution, '^[^:]*')
  running[#running + 1] = {id, redis.call('HMGET', ARGV[1] .. id, 'worker_name', 'started_at', 'meta')}
end
return {redis.call('LLEN', KEYS[1]), redis.call('ZCARD', KEYS[3]), since or '', running}
"""


# How many jobs a queue has in each state, and since when the next has waited; what failed is forgotten at its score.
_COUNTS = """
local head = redis.call('LINDEX', KEYS[1], 0)
local since = head and redis.call('HGET', ARGV[1] .. head, 'enqueued_at')
return {redis.call('LLEN', KEYS[1]), redis.call('ZCARD', KEYS[2]), redis.call('ZCARD', KEYS[3]),
  redis.call('ZCOUNT', KEYS[4], ARGV[2], '+inf'), since or ''}
"""


@dataclass(frozen=True)
class JobCounts:
    """The jobs of a queue, whatever they are for."""

    queued: int
    waiting_for_klines: int
    running: int
    failed: int  # those whose reasons are still kept
    oldest_age_s: float  # how long the next one has been queued; 0 where none is

    @property
    def unfinished(self) -> int:
        return self.queued + self.waiting_for_klines + self.running


@dataclass(frozen=True)
class Workforce:
    """How many workers gave a sign of life lately, and when the last one did of any whose registration is alive."""

    at_hand: int
    last_heard: datetime | None

    @property
    def silent_since(self) -> datetime | None:
        """Since when nothing was heard of the workers there were; None where some are at hand, or none ever registered."""
        return None if self.at_hand else self.last_heard


class LoadedModel(Contract):
    """The model that a worker has loaded when it started; others it loads when they are first asked for."""

    name: str
    source: ModelSource
    stands_in_for: str | None = Field(description="the configured model that could not be had, if any")
    device: str
    dtype: str
    kernels: str


class WorkerStatus(Contract):
    """One worker whose registration is alive."""

    name: str
    state: str = Field(description="RQ's word: starting, started, busy, idle or suspended")
    host: str
    process: int
    since: datetime = Field(description="when it started")
    heartbeat_at: datetime
    heartbeat_age_s: float
    queues: list[str] = Field(description="the queues that it takes jobs from, the first first")
    jobs: list[str] = Field(description="the forecasts that it is at: several where it draws them side by side")
    model: LoadedModel | None = Field(description="none where the worker does not say, as those of other versions")
    finished: int = Field(description="jobs that it has ended well since its start")
    failed: int

    @property
    def silent(self) -> bool:
        """Whether its last sign of life is so old that it may have been killed."""
        return self.heartbeat_age_s > SILENT_AFTER_S


class RunningForecast(Contract):
    id: str
    worker: str | None
    since: datetime | None
    progress: Progress | None


class QueueStatus(Contract):
    waiting: int = Field(description="forecasts that no worker has taken up yet")
    fetching: int = Field(description="those of them whose klines are still to be fetched")
    oldest_age_s: float | None = Field(description="how long the next of the others has waited")
    running: list[RunningForecast]


def workers_question(queue_names: Sequence[str], now_ms: int) -> Question[list[WorkerStatus]]:
    """The workers of queues, each once, by name; `now_ms` (UTC ms) is the moment from which heartbeats' ages are counted."""
    keys = [WORKERS_BY_QUEUE_KEY % name for name in queue_names]
    return Question(
        (("EVAL", _WORKERS, len(keys), *keys, MODEL_FIELD, _EXECUTIONS_SUFFIX),),
        lambda replies: sorted((_worker(now_ms, *found) for found in replies[0]), key=lambda one: one.name),
    )


def workforce_question(queue_name: str, now_ms: int) -> Question[Workforce]:
    """Who is there to work, at the UTC ms that signs of life are judged by. Redis itself lets a killed worker's
    registration expire only after minutes, since a job may take that long without a word.
    """

    def read(replies: list[Any]) -> Workforce:
        heard = [beat for beat in map(_moment, map(_text, replies[0])) if beat]
        at_hand = sum(_age_s(beat, now_ms) <= SILENT_AFTER_S for beat in heard)
        return Workforce(at_hand, max(heard, default=None))

    return Question((("EVAL", _HEARTBEATS, 1, WORKERS_BY_QUEUE_KEY % queue_name),), read)


def queues_question(queues: Sequence[Queue], now_ms: int) -> Question[QueueStatus]:
    """What waits and runs of several queues, taken together, at `now_ms`, UTC ms."""
    keys = [(one.key, one.started_job_registry.key, one.deferred_job_registry.key) for one in queues]
    return Question(
        tuple(("EVAL", _QUEUE, len(of_one), *of_one, Job.key_for("")) for of_one in keys),
        lambda replies: _together([_queue(now_ms, *reply) for reply in replies]),
    )


def counts_question(queue: Queue, now_ms: int) -> Question[JobCounts]:
    """How many jobs a queue has in each state at `now_ms`, UTC ms."""
    deferred, running, failed = queue.deferred_job_registry, queue.started_job_registry, queue.failed_job_registry

    def read(replies: list[Any]) -> JobCounts:
        queued, waiting, at_work, lost, since = replies[0]
        head = _moment(_text(since))
        return JobCounts(queued, waiting, at_work, lost, _age_s(head, now_ms) if head else 0.0)

    keys = (queue.key, deferred.key, running.key, failed.key)
    return Question((("EVAL", _COUNTS, len(keys), *keys, Job.key_for(""), now_ms // 1000),), read)


def _worker(now_ms: int, key: bytes, fields: list[bytes | None], executions: list[bytes]) -> WorkerStatus:
    birth, heartbeat, state, host, process, finished, failed, queues, model = (_text(field) for field in fields)
    beat = _moment(heartbeat) or datetime.fromtimestamp(0, UTC)
    return WorkerStatus(
        name=key.decode().removeprefix("rq:worker:"),
        state=state or "starting",
        host=host,
        process=int(process or 0),
        since=_moment(birth) or beat,
        heartbeat_at=beat,
        heartbeat_age_s=_age_s(beat, now_ms),
        queues=queues.split(",") if queues else [],
        jobs=sorted(one.decode().partition(":")[0] for one in executions),  # job:execution
        model=_model(model),
        finished=int(finished or 0),
        failed=int(failed or 0),
    )


def _queue(now_ms: int, ready: int, fetching: int, since: bytes, running: list[Any]) -> QueueStatus:
    head = _moment(_text(since))
    found = {}  # by id: a job that a worker has lost and another has taken up is in the list twice for a while
    for forecast_id, (worker, started, meta) in running:
        progress = json.loads(meta or b"{}").get("progress")
        found[forecast_id.decode()] = RunningForecast(
            id=forecast_id.decode(),
            worker=_text(worker) or None,
            since=_moment(_text(started)),
            progress=Progress.model_validate(progress) if progress else None,
        )
    return QueueStatus(
        waiting=ready + fetching,
        fetching=fetching,
        oldest_age_s=_age_s(head, now_ms) if head else None,
        running=list(found.values()),
    )


def _together(queues: Sequence[QueueStatus]) -> QueueStatus:
    return QueueStatus(
        waiting=sum(one.waiting for one in queues),
        fetching=sum(one.fetching for one in queues),
        oldest_age_s=max((one.oldest_age_s for one in queues if one.oldest_age_s is not None), default=None),
        running=[job for one in queues for job in one.running],
    )


def _model(text: str) -> LoadedModel | None:
    try:
        return LoadedModel.model_validate_json(text) if text else None
    except ValidationError:
        return None  # of another version


def _moment(text: str) -> datetime | None:
    return datetime.fromisoformat(text).astimezone(UTC) if text else None


def _age_s(moment: datetime, now_ms: int) -> float:
    return round(max(0.0, now_ms / 1000 - moment.timestamp()), 1)


def _text(field: bytes | None) -> str:
    return field.decode() if field else ""
