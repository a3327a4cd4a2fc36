"""The workers of an RQ queue: what their names tell, which of them are alive, and giving back what gone ones had begun.

Knows no job of ours.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast
from uuid import uuid4

from redis.client import Pipeline
from rq import Queue, Worker
from rq.executions import Execution
from rq.job import Job, JobStatus
from rq.job_lifecycle import record_job_failure
from rq.utils import now
from rq.worker_registration import WORKERS_BY_QUEUE_KEY

from shared.redis_questions import Question, ask_together

MACHINE_ID_FILES = (Path("/proc/sys/kernel/random/boot_id"), Path("/etc/machine-id"))

# RQ keeps a killed worker in its list, but lets its registration expire.
_REGISTERED = """
local alive = {}
for _, key in ipairs(redis.call('SUNION', unpack(KEYS))) do
  if redis.call('EXISTS', key) == 1 then alive[#alive + 1] = key end
end
return alive
"""


@dataclass(frozen=True)
class WorkerName:
    """What the name of a worker tells: the machine (the same for all its containers), host, process, and a random part,
    since a restarted container has the same host and process id as before.
    """

    machine: str
    host: str
    process: str
    random: str

    @classmethod
    def of_this_process(cls) -> WorkerName:
        return cls(_machine_id(), socket.gethostname().replace(".", "-"), str(os.getpid()), uuid4().hex[:6])

    @classmethod
    def read(cls, name: str) -> WorkerName:
        """A name that is not of this form belongs to no machine that we know."""
        parts = name.split(".")
        return cls(*parts) if len(parts) == 4 else cls("", "", "", name)

    def __str__(self) -> str:
        return ".".join((self.machine, self.host, self.process, self.random))


def is_gone(name: str, own_name: str) -> bool:
    """Whether a worker of this very host (a container is a host of its own) has ended without saying so."""
    other, own = WorkerName.read(name), WorkerName.read(own_name)
    if name == own_name or (other.machine, other.host) != (own.machine, own.host):
        return False
    return other.process == own.process or not Path("/proc", other.process).exists()


def names_question(*queue_names: str) -> Question[list[str]]:
    """The names of the workers of one queue or several whose registration in Redis is alive."""
    return Question(
        (("EVAL", _REGISTERED, len(queue_names), *(WORKERS_BY_QUEUE_KEY % name for name in queue_names)),),
        lambda replies: sorted(_name(key) for key in replies[0]),
    )


def release_abandoned(queue: Queue, is_gone: Callable[[str], bool]) -> list[str]:
    """Give back to a queue what workers began that are gone; returns the ids of those jobs.

    Gone is a worker whose registration has expired, or of which `is_gone` says so by its name.
    """
    question = names_question(queue.name)
    alive = ask_together(queue.connection, question)[question]
    gone = [one for one in executions_of(queue) if one.worker_name not in alive or is_gone(one.worker_name)]
    return give_back(queue, gone)


def executions_of(queue: Queue) -> list[Execution]:
    """What RQ holds to be running. One whose details have expired names no worker."""
    redis = queue.connection
    keys = [key.decode() for key in cast("list[bytes]", redis.zrange(queue.started_job_registry.key, 0, -1))]
    found = [Execution.from_composite_key(key, connection=redis) for key in keys]
    with redis.pipeline(transaction=False) as pipe:
        for execution in found:
            pipe.hgetall(execution.key)
        for execution, details in zip(found, pipe.execute(), strict=True):
            if b"last_heartbeat" in details and b"created_at" in details:
                execution.restore(details)
    return found


def give_back(queue: Queue, lost: Sequence[Execution]) -> list[str]:
    """Let jobs wait again whose workers are lost, or fail where they have no try left; returns the ids of both.

    All in one transaction, so that of several who notice one does it. It is RQ's `StartedJobRegistry.cleanup` otherwise,
    which two can do at once, so that a job would be in the queue twice.
    """
    if not lost:
        return []
    registry, redis = queue.started_job_registry, queue.connection

    def settle(pipe: Pipeline) -> Any:
        there = [one for one in lost if pipe.zscore(registry.key, one.composite_key) is not None]
        jobs = Job.fetch_many([one.job_id for one in there], connection=redis, serializer=queue.serializer)
        pipe.multi()
        for execution, job in zip(there, jobs, strict=True):
            pipe.zrem(registry.key, execution.composite_key)
            if job is not None and job.get_status(refresh=False) == JobStatus.STARTED:
                _try_again_or_fail(queue, job, pipe)
        return [job for job in jobs if job is not None]

    settled = cast("list[Job]", redis.transaction(settle, registry.key, value_from_callable=True))
    for job in settled:
        if job.get_status(refresh=False) == JobStatus.FAILED:
            queue.enqueue_dependents(job, refresh_job_status=False)
    return [job.id for job in settled]


def _try_again_or_fail(queue: Queue, job: Job, pipe: Pipeline) -> None:
    if job.retries_left:
        job.retry(queue, pipe)
        return
    tries = job.meta.get("tries", 1)
    job.meta["error"] = (
        f"Its worker was lost {'once' if tries == 1 else f'{tries} times'} while it was at this (killed, out of memory, or "
        "its machine gone), so it is not tried again; look into the workers' logs, or ask for fewer paths."
    )
    pipe.hset(job.key, "meta", job.serializer.dumps(job.meta))
    job.ended_at = now()  # which RQ saves with the rest
    record_job_failure(job, job.meta["error"], pipe)


def _name(key: bytes) -> str:
    return key.decode().removeprefix(Worker.redis_worker_namespace_prefix)


def _machine_id() -> str:
    """The same for all containers of one machine, so that their workers know of each other."""
    for path in MACHINE_ID_FILES:
        if path.is_file():
            return path.read_text().strip().replace("-", "")[:12]
    return socket.gethostname().replace(".", "-")
