"""What publishing counts: how each of its steps ended, and when it last went well.

One tally for the process, as the library has it: whoever takes a step counts it here.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

from services.publishing.git.program import GitFailedError
from services.publishing.git.reasons import Reason
from shared.errors import KronosLiveError, NotFoundError, PublishError, StoreUnavailableError
from shared.metrics import Metric, Tally

Step = Literal["read", "write", "commit", "push"]

STEPS_DONE = Metric(
    "kronos_site_steps_total",
    "Steps of publishing the static site that went well: read (a look at Redis, also where nothing new is there), write (the "
    "folder), commit and push (its history, where it is kept).",
    ("step",),
)
FAILURES = Metric(
    "kronos_site_failures_total",
    "Steps of publishing that failed, by the kind of reason: redis, folder, git, other, or what stood in the way of a push "
    "(credentials, unknown_host_key, no_repository, not_fast_forward, refused, no_network, slow); the log has it in words.",
    ("step", "reason"),
)
IN_A_ROW = Metric(
    "kronos_site_failures_in_a_row",
    "How often a step of publishing has failed since it last went well; 0 where it did the last time.",
    ("step",),
)
DONE_AT = Metric(
    "kronos_site_step_done_seconds", "Unix time at which a step of publishing last went well; absent before.", ("step",)
)
PUBLISHING_METRICS = (STEPS_DONE, FAILURES, IN_A_ROW, DONE_AT)

TALLY = Tally(PUBLISHING_METRICS)
_in_a_row: dict[Step, int] = {}


@contextmanager
def counted(step: Step) -> Iterator[None]:
    """Count a step by how the block ends. That there is no forecast yet is no failure."""
    try:
        yield
    except NotFoundError:
        went_well(step)
        raise
    except KronosLiveError as error:
        failed(step, _kind_of(error))
        raise
    went_well(step)


def went_well(step: Step) -> None:
    TALLY.count(STEPS_DONE, step)
    TALLY.set(DONE_AT, time.time(), step)
    _in_a_row[step] = 0
    TALLY.set(IN_A_ROW, 0, step)


def failed(step: Step, reason: Reason | Literal["redis", "folder", "git"]) -> None:
    TALLY.count(FAILURES, step, reason)
    _in_a_row[step] = _in_a_row.get(step, 0) + 1
    TALLY.set(IN_A_ROW, _in_a_row[step], step)


def _kind_of(error: KronosLiveError) -> Literal["redis", "folder", "git", "other"]:
    match error:
        case StoreUnavailableError():
            return "redis"
        case GitFailedError():
            return "git"
        case PublishError():
            return "folder"
    return "other"
