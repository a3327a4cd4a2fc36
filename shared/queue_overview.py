"""How it stands with the queue and its workers, read from RQ's books in one look each.

Only reads; what is written there is RQ's, and the worker's word on its model (`MODEL_FIELD`). Times are UTC.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from pydantic import Field, ValidationError
from rq.job import Job
from rq.worker_registration import WORKERS_BY_QUEUE_KEY

from shared.forecasts import Contract, ModelSource, Progress
from shared.redis_questions import Question

MODEL_FIELD = "kronos_model"  # in a worker's registration: a LoadedModel as JSON

# RQ keeps a killed worker in its list, but lets its registration expire.
_WORKERS = """
local found = {}
for _, key in ipairs(redis.call('SMEMBERS', KEYS[1])) do
  local fields = redis.call('HMGET', key, 'birth', 'last_heartbeat', 'state', 'current_job', 'hostname', 'pid',
    'successful_job_count', 'failed_job_count', ARGV[1])
  if fields[1] then found[#found + 1] = {key, fields} end
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
    job: str | None = Field(description="the forecast that it is at")
    model: LoadedModel | None = Field(description="none where the worker does not say, as those of other versions")
    finished: int = Field(description="jobs that it has ended well since its start")
    failed: int


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


def workers_question(queue_name: str, now_ms: int) -> Question[list[WorkerStatus]]:
    """The workers of a queue, by name; `now_ms` (UTC ms) is the moment from which heartbeats' ages are counted."""
    return Question(
        (("EVAL", _WORKERS, 1, WORKERS_BY_QUEUE_KEY % queue_name, MODEL_FIELD),),
        lambda replies: sorted((_worker(now_ms, *found) for found in replies[0]), key=lambda one: one.name),
    )


def queue_question(queue_key: str, running_key: str, deferred_key: str, now_ms: int) -> Question[QueueStatus]:
    return Question(
        (("EVAL", _QUEUE, 3, queue_key, running_key, deferred_key, Job.key_for("")),),
        lambda replies: _queue(now_ms, *replies[0]),
    )


def _worker(now_ms: int, key: bytes, fields: list[bytes | None]) -> WorkerStatus:
    birth, heartbeat, state, job, host, process, finished, failed, model = (_text(field) for field in fields)
    beat = _moment(heartbeat) or datetime.fromtimestamp(0, UTC)
    return WorkerStatus(
        name=key.decode().removeprefix("rq:worker:"),
        state=state or "starting",
        host=host,
        process=int(process or 0),
        since=_moment(birth) or beat,
        heartbeat_at=beat,
        heartbeat_age_s=_age_s(beat, now_ms),
        job=job or None,
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
