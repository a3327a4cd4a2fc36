"""Jobs that have failed for good, each with its reason, for as long as RQ keeps them (queue.failure_ttl)."""

from __future__ import annotations

from datetime import UTC, datetime

from pydantic import Field
from rq import Queue
from rq.job import Job, JobStatus

from shared.contract import Contract
from shared.settings import Lane


class FailedJob(Contract):
    """A forecast, or the scoring of a series, that is not tried again."""

    id: str
    reason: str = Field(description="in one sentence")
    tries: int
    failed_at: datetime
    lane: Lane


def failed_jobs(queue: Queue, lane: Lane, at_most: int) -> list[FailedJob]:
    """Those of one queue, the newest first; RQ keeps them in the order in which they will be forgotten."""
    ids = queue.failed_job_registry.get_job_ids(end=at_most - 1, desc=True)
    jobs = Job.fetch_many(ids, connection=queue.connection, serializer=queue.serializer) if ids else []
    return [
        FailedJob(
            id=job.id,
            reason=why_failed(job),
            tries=job.meta.get("tries", 0),
            failed_at=(job.ended_at or job.created_at).astimezone(UTC),
            lane=lane,
        )
        for job in jobs
        if job is not None and job.get_status(refresh=False) == JobStatus.FAILED
    ]


def why_failed(job: Job) -> str:
    """In one sentence, why a job has failed for good."""
    return str(job.meta.get("error") or "The worker stopped before the forecast was finished; ask for it again.")
