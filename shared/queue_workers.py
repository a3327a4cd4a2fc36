"""The workers of an RQ queue: what their names tell, which of them are alive, and giving back what gone ones had begun.

Knows no job of ours.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import cast
from uuid import uuid4

from rq import Queue, Worker
from rq.executions import Execution
from rq.worker_registration import WORKERS_BY_QUEUE_KEY

from shared.redis_questions import Question, ask_together

MACHINE_ID_FILES = (Path("/proc/sys/kernel/random/boot_id"), Path("/etc/machine-id"))

# RQ keeps a killed worker in its list, but lets its registration expire.
_REGISTERED = """
local alive = {}
for _, key in ipairs(redis.call('SMEMBERS', KEYS[1])) do
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


def names_question(queue_name: str) -> Question[list[str]]:
    """The names of a queue's workers whose registration in Redis is alive."""
    return Question(
        (("EVAL", _REGISTERED, 1, WORKERS_BY_QUEUE_KEY % queue_name),),
        lambda replies: sorted(_name(key) for key in replies[0]),
    )


def release_abandoned(queue: Queue, is_gone: Callable[[str], bool]) -> list[str]:
    """Give back to a queue what workers began that are gone; returns the ids of those jobs.

    Gone is a worker whose registration has expired, or of which `is_gone` says so by its name. RQ would notice only
    when the job's time-out has passed, since its SimpleWorker sends no heartbeat from within a job.
    """
    question = names_question(queue.name)
    registry, alive = queue.started_job_registry, ask_together(queue.connection, question)[question]
    abandoned = [
        execution
        for execution in _executions(queue)
        if execution.worker_name not in alive or is_gone(execution.worker_name)
    ]
    if abandoned:
        queue.connection.zadd(registry.key, {execution.composite_key: 1 for execution in abandoned})  # expired long ago
        registry.cleanup()
    return [execution.job_id for execution in abandoned]


def _executions(queue: Queue) -> Iterator[Execution]:
    """What RQ holds to be running."""
    for key in cast("list[bytes]", queue.connection.zrange(queue.started_job_registry.key, 0, -1)):
        execution = Execution.from_composite_key(key.decode(), connection=queue.connection)
        with suppress(ValueError):  # its details have expired: then no worker is named, and it is abandoned
            execution.refresh()
        yield execution


def _name(key: bytes) -> str:
    return key.decode().removeprefix(Worker.redis_worker_namespace_prefix)


def _machine_id() -> str:
    """The same for all containers of one machine, so that their workers know of each other."""
    for path in MACHINE_ID_FILES:
        if path.is_file():
            return path.read_text().strip().replace("-", "")[:12]
    return socket.gethostname().replace(".", "-")
