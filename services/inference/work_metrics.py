"""What a worker counts: how its jobs ended, how long they had waited, and how long each phase of a forecast took.

One tally for the process, as the library has it: the jobs count here what they see.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Literal

from rq.job import Job

from shared.forecasts import Forecast
from shared.metrics import Metric, Tally

Outcome = Literal["finished", "failed", "cancelled"]
Kind = Literal["forecast", "scores", "backtest"]

JOBS_ENDED = Metric(
    "kronos_worker_jobs_total",
    "Tries of jobs that this worker has ended, by what they were for (forecast, scores, backtest) and how they ended "
    "(finished, failed, cancelled).",
    ("kind", "outcome"),
)
QUEUE_WAIT = Metric(
    "kronos_queue_wait_seconds",
    "How long a job had waited in the queue when this worker began it.",
    ("kind",),
    (0.01, 0.05, 0.1, 0.5, 1, 5, 15, 60, 300, 900, 3600, 14_400),
)
PHASE = Metric(
    "kronos_forecast_phase_seconds",
    "What a phase of a forecast took, and total; of forecasts that were drawn side by side each has the time of all.",
    ("phase",),
    (0.001, 0.005, 0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300),
)
PATHS = Metric("kronos_paths_drawn_total", "Paths of forecasts that this worker has stored.")
WORKER_METRICS = (JOBS_ENDED, QUEUE_WAIT, PHASE, PATHS)

TALLY = Tally(WORKER_METRICS)
_drawn_since: dict[str, float] = {}  # UTC s, by id of a job that is drawn beside others before it runs itself


def drawing_begins(job_ids: Iterable[str]) -> None:
    """What is drawn side by side is begun now, though its jobs run when that is done."""
    _drawn_since.clear()
    _drawn_since.update(dict.fromkeys(job_ids, time.time()))


def job_begins(job: Job, kind: Kind) -> None:
    began = _drawn_since.pop(job.id, time.time())
    if job.enqueued_at is not None:
        TALLY.observe(QUEUE_WAIT, max(0.0, began - job.enqueued_at.timestamp()), kind)


def job_ends(kind: Kind, outcome: Outcome) -> None:
    TALLY.count(JOBS_ENDED, kind, outcome)


def forecast_stored(forecast: Forecast) -> None:
    for phase, seconds in forecast.provenance.timings_s.items():
        TALLY.observe(PHASE, seconds, phase)
    TALLY.count(PATHS, by=forecast.paths.shape[0])
