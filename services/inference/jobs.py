"""The only functions that RQ calls: one job, one forecast.

RQ calls them by name with plain JSON, so what they work with is laid out beforehand by the worker (`equip`). Knows the
story of a job and how its failure is told; not how a forecast is made.
"""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from redis import Redis
from rq.timeouts import JobTimeoutException

from services.inference.forecaster import Forecaster, Task
from shared.errors import KronosLiveError, StoreUnavailableError
from shared.forecast_queue import count_try, record_failure, report_progress
from shared.forecast_store import ForecastStore
from shared.forecasts import ForecastRequest
from shared.kline_store import KlineStore
from shared.logs import get_logger
from shared.redis_connection import wait_until_ready

log = get_logger(__name__)

PROGRESS_EVERY_S = 0.2
PROGRESS_AFTER_OUTAGE_S = 5.0


@dataclass(frozen=True)
class Workbench:
    """What every job of this process works with: loaded once, used by all."""

    forecaster: Forecaster
    redis: Redis
    klines: KlineStore
    forecasts: ForecastStore
    job_timeout_s: int


_workbench: Workbench | None = None


def equip(workbench: Workbench) -> None:
    """Lay out what the jobs of this process work with; the worker does it once, before it takes a job."""
    global _workbench  # noqa: PLW0603 - RQ calls jobs by name and can hand them nothing but JSON
    _workbench = workbench


def run_forecast(forecast_id: str, request: dict[str, Any]) -> str:
    """Make the forecast that `request` asks for, store it, and return its id. What fails raises, with its reason kept."""
    if _workbench is None:
        raise RuntimeError("this process was never equipped: start it with `kronos-live worker`")
    tries = count_try()
    try:
        if _workbench.forecasts.exists(forecast_id):
            return forecast_id  # an earlier try died after it had stored its work
        _forecast_and_store(_workbench, forecast_id, request)
    except KronosLiveError as error:
        _fail(forecast_id, tries, str(error), permanent=error.permanent)
        raise
    except JobTimeoutException:
        reason = f"The forecast took longer than {_workbench.job_timeout_s} s (queue.job_timeout); ask for fewer paths."
        _fail(forecast_id, tries, reason, permanent=True)
        raise
    except Exception as error:
        reason = f"The forecast failed unexpectedly ({type(error).__name__}); the worker's log has the details."
        _fail(forecast_id, tries, reason, permanent=False)
        raise
    return forecast_id


def _forecast_and_store(workbench: Workbench, forecast_id: str, request: dict[str, Any]) -> None:
    asked = ForecastRequest.model_validate(request)
    window = workbench.klines.load(asked.snapshot_id)
    made = workbench.forecaster.forecast(Task(forecast_id, asked, window), _Progress())
    while True:
        try:
            workbench.forecasts.save(made.forecast, made.paths)
            break
        except StoreUnavailableError:
            wait_until_ready(workbench.redis)  # what took minutes to make is not thrown away for seconds of outage
    log.info(
        "forecast_stored",
        forecast=forecast_id,
        venue=window.venue,
        origin=window.origin,
        model=made.forecast.provenance.model.name,
        source=made.forecast.provenance.model.source,
        seconds=round(made.forecast.provenance.timings_s["total"], 3),
    )


class _Progress:
    """Progress is a courtesy: it is told a few times a second, and a forecast does not wait until somebody can be told."""

    def __init__(self) -> None:
        self._next_at = 0.0

    def __call__(self, phase: str, done: int, total: int) -> None:
        if time.monotonic() < self._next_at:
            return
        pause = PROGRESS_EVERY_S
        try:
            report_progress(phase, done, total)
        except StoreUnavailableError:
            pause = PROGRESS_AFTER_OUTAGE_S
        self._next_at = time.monotonic() + pause


def _fail(forecast_id: str, tries: int, reason: str, *, permanent: bool) -> None:
    log.warning("forecast_failed", forecast=forecast_id, tries=tries, reason=reason, will_retry=not permanent)
    with suppress(StoreUnavailableError):
        record_failure(reason, permanent=permanent)
