"""Finds what workers of a queue had begun and will never end, or had taken and never begun, and gives it back.

A worker is held for lost when whoever watches it has seen no new sign of life for LOST_AFTER_S. No two machines' clocks are
compared for that, and time in which Redis did not answer the watcher does not count: nobody could give a sign then.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from redis import Redis
from rq import Queue
from rq.job import Job, JobStatus

from shared.queue_workers import executions_of, give_back
from shared.redis_connection import redis_errors_translated

SIGN_EVERY_S = 5.0  # from a worker, of itself and of all that it is at; as often others look for it
LOST_AFTER_S = 30.0  # of silence; a job is back in its queue within this and a few looks of its worker's death
STRANDED_AFTER_S = 10.0  # between the queue and a worker, where a job otherwise is for milliseconds
LOOKS_APART_S = 15.0  # at most: who looked away for longer knows nothing of the time between

# Puts back at the head a job that was taken out of the queue by whom Redis' answer never reached, or who died before it began.
_PUT_BACK = """
if redis.call('LREM', KEYS[2], 1, ARGV[1]) == 1 then return redis.call('LPUSH', KEYS[1], ARGV[1]) end
return 0
"""

# Whoever begins a job takes it off the list of those that were taken and not begun, in the same step as it is said to run, so
# that it can be found at any moment; that can be asked again where Redis' answer was lost.
_HOLD = """
if redis.call('LREM', KEYS[1], 1, ARGV[1]) == 1 then
  redis.call('HSET', KEYS[2], 'taken_by', ARGV[2], 'status', ARGV[3])
  return 1
end
return redis.call('HGET', KEYS[2], 'taken_by') == ARGV[2] and 1 or 0
"""


class LostWork:
    """Watches a queue through the eyes of one process, `look` by `look`. `is_gone` says of a worker's name whether that has
    certainly ended; then nobody waits any longer.
    """

    def __init__(
        self, queue: Queue, is_gone: Callable[[str], bool], now_s: Callable[[], float] = time.monotonic
    ) -> None:
        self._queue = queue
        self._is_gone = is_gone
        self._now_s = now_s
        self._looked_at = now_s()
        self._silent_since: dict[tuple[str, str], float] = {}  # (execution, its last sign of life) -> first seen so
        self._stranded_since: dict[str, float] = {}

    @redis_errors_translated()
    def look(self) -> list[str]:
        """Look once, every SIGN_EVERY_S or so; returns the ids of jobs that were given back, or had no try left.

        Raises StoreUnavailableError.
        """
        executions, stranded, now = executions_of(self._queue), taken_and_not_begun(self._queue), self._now_s()
        if now - self._looked_at > LOOKS_APART_S:
            self.forget()
        self._looked_at = now
        signs = {(one.composite_key, str(one.last_heartbeat)): one for one in executions}
        self._silent_since = {sign: self._silent_since.get(sign, now) for sign in signs}
        self._stranded_since = {job_id: self._stranded_since.get(job_id, now) for job_id in stranded}
        lost = [
            one
            for sign, one in signs.items()
            if now - self._silent_since[sign] >= LOST_AFTER_S or self._is_gone(one.worker_name)
        ]
        late = [job_id for job_id, since in self._stranded_since.items() if now - since >= STRANDED_AFTER_S]
        return [*give_back(self._queue, lost), *(job_id for job_id in late if put_back(self._queue, job_id))]

    def forget(self) -> None:
        """Begin to watch anew, as when Redis was away or took nothing down."""
        self._silent_since.clear()
        self._stranded_since.clear()


def taken_and_not_begun(queue: Queue) -> list[str]:
    """Jobs that have left a queue and that no worker has begun: for a moment as one takes them, for good where it died in
    that moment, or Redis went away."""
    return queue.intermediate_queue.get_job_ids()


def put_back(queue: Queue, job_id: str) -> bool:
    """Let such a job wait again, unless it was begun after all."""
    redis: Redis = queue.connection
    return bool(redis.eval(_PUT_BACK, 2, queue.key, queue.intermediate_queue_key, job_id))


@redis_errors_translated()
def hold(queue: Queue, job_id: str, execution_id: str) -> bool:
    """Whether a job that was taken is its taker's to begin, and so runs: not where that took so long that it was put back. The
    execution must be in RQ's books already. Raises StoreUnavailableError.
    """
    redis: Redis = queue.connection
    keys, running = (queue.intermediate_queue_key, Job.key_for(job_id)), JobStatus.STARTED.value
    return bool(redis.eval(_HOLD, len(keys), *keys, job_id, execution_id, running))
