"""One job, one forecast, of now or of a backtest's moment, or the scores of a series' earlier ones: what RQ calls, and what
the worker calls beforehand to make several forecasts side by side.

RQ calls by name with plain JSON, so what the jobs work with is laid out beforehand by the worker (`equip`). Knows the
story of a job and how its failure is told; not how a forecast is made.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from redis import Redis
from rq.timeouts import JobTimeoutException

from services.inference.forecaster import Forecaster, Made, Report, Task
from services.inference.work_metrics import Kind, drawing_begins, forecast_stored, job_begins, job_ends
from shared.backtest_queue import BacktestQueue, Moment
from shared.calibration_store import CalibrationStore
from shared.errors import ForecastCancelledError, KronosLiveError, StoreUnavailableError
from shared.forecast_queue import (
    current_job,
    may_be_stored,
    record_failure,
    refuse_cancelled,
    report_progress,
    with_snapshot,
)
from shared.forecast_store import ForecastStore
from shared.forecasts import ForecastRequest
from shared.imported_scoring import score_imported
from shared.kline_store import KlineStore
from shared.klines import Interval
from shared.logs import get_logger
from shared.redis_connection import wait_until_ready

T = TypeVar("T")

log = get_logger(__name__)

PROGRESS_EVERY_S = 0.2
PROGRESS_AFTER_OUTAGE_S = 5.0
STORE_AGAIN_S = 0.5


@dataclass(frozen=True)
class Workbench:
    """What every job of this process works with: loaded once, used by all. `is_mine` says of a forecast's id whether this
    worker is still the one to make it.
    """

    forecaster: Forecaster
    redis: Redis
    klines: KlineStore
    forecasts: ForecastStore
    calibrations: CalibrationStore
    backtests: BacktestQueue
    calibrate: bool
    job_timeout_s: int
    is_mine: Callable[[str], bool]


_workbench: Workbench | None = None


def equip(workbench: Workbench) -> None:
    """Lay out what the jobs of this process work with; the worker does it once, before it takes a job."""
    global _workbench  # noqa: PLW0603 - RQ calls jobs by name and can hand them nothing but JSON
    _workbench = workbench


def run_forecast(forecast_id: str, request: dict[str, Any]) -> str:
    """Make the forecast that `request` asks for, store it, and return its id. What fails raises, with its reason kept."""
    workbench = _equipped()
    with _failure_kept(forecast_id), _counted("forecast"):
        if is_made(forecast_id):
            return forecast_id  # it was drawn beside others, or an earlier try died after it had stored its work
        refuse_cancelled(current_job())
        asked = with_snapshot(workbench.redis, ForecastRequest.model_validate(request))
        task = _task(workbench, forecast_id, asked)
        if not _store(workbench, workbench.forecaster.forecast(task, _progress_of_this_job())):
            refuse_cancelled(current_job())
    return forecast_id


def forecast_past(forecast_id: str, request: dict[str, Any], outcome: list[float]) -> str:
    """Forecast from a backtest's moment, score that by the closes that followed, keep the line, and return the job's id.
    What fails raises, with its reason kept.
    """
    from services.inference.past_forecasts import (
        forecast_and_score,
    )  # it brings libraries that a forecast does not need

    workbench, job_id = _equipped(), current_job().id
    with _failure_kept(forecast_id), _counted("backtest"):
        if workbench.backtests.is_finished(job_id):
            return job_id  # an earlier try died after it had kept its work
        known = workbench.backtests.known(job_id)
        moment = Moment(forecast_id, ForecastRequest.model_validate(request), known, outcome)
        line = forecast_and_score(workbench.forecaster, moment, _progress_of_this_job())
        _insist(workbench, lambda: workbench.backtests.finish(job_id, line))
        log.info("past_forecast_scored", forecast=forecast_id, seconds=line.forecast.provenance.timings_s["total"])
    return job_id


def score_series(symbol: str, interval: str) -> int:
    """Score the forecasts of a series whose candles have closed, then the imported ones; returns how many scores were written."""
    from services.inference.scorekeeper import Stores, score_due  # it brings libraries that a forecast does not need

    workbench, scored = _equipped(), 0
    stores = Stores(workbench.klines, workbench.forecasts, workbench.calibrations)
    try:
        with _counted("scores"):
            series, now_ms = (symbol, Interval(interval)), time.time_ns() // 1_000_000
            scored = len(score_due(stores, *series, now_ms))
            scored += score_imported(workbench.forecasts.imported, workbench.klines, *series, now_ms)
    except Exception as error:
        expected = isinstance(error, KronosLiveError)
        log.warning("scoring_failed", series=f"{symbol} {interval}", reason=str(error), exc_info=not expected)
        why = str(error) if expected else f"{type(error).__name__}; the worker's log has the details"
        with suppress(StoreUnavailableError):
            record_failure(current_job(), f"{symbol} {interval} could not be scored: {why}", permanent=False)
        raise
    return scored


def make_side_by_side(asked: Mapping[str, ForecastRequest], tell: Report) -> None:
    """Make forecasts of one shape together and store each, before their jobs run, which then find them made.

    Leaves out what is made already and what has no klines to be made from: the latter's own job says why. One that is
    cancelled meanwhile is drawn to the end beside the others, but not stored. Raises what goes wrong with all of them
    together, ForecastCancelledError where none is wanted any more; then none is made.
    """
    workbench = _equipped()
    drawing_begins(asked)
    tasks = []
    for forecast_id, request in asked.items():
        with suppress(KronosLiveError):
            if not is_made(forecast_id):
                tasks.append(_task(workbench, forecast_id, request))
    if len(tasks) > 1:
        for made in workbench.forecaster.forecast_panel(tasks, _Progress(tell)):
            _store(workbench, made)


def is_made(forecast_id: str) -> bool:
    """Whether the forecast is stored. Raises StoreUnavailableError."""
    return _equipped().forecasts.exists(forecast_id)


def _equipped() -> Workbench:
    if _workbench is None:
        raise RuntimeError("this process was never equipped: start it with `kronos-live worker`")
    return _workbench


def _task(workbench: Workbench, forecast_id: str, request: ForecastRequest) -> Task:
    window = workbench.klines.load(request.snapshot_id)
    log.info("forecast_begun", forecast=forecast_id, snapshot=request.snapshot_id, scheduled=request.scheduled)
    if not workbench.calibrate:
        return Task(forecast_id, request, window)
    learned = workbench.calibrations.load(request.symbol, request.interval, window.origin)
    return Task(forecast_id, request, window, learned)


def _store(workbench: Workbench, made: Made) -> bool:
    """Keep a forecast; False, and nothing is kept, where it was cancelled before, or given to another worker."""

    def store() -> bool:
        if not may_be_stored(workbench.redis, made.forecast.id, workbench.is_mine):
            return False
        workbench.forecasts.save(made.forecast, made.paths, made.baseline_draws)
        return True

    if not _insist(workbench, store):
        return False
    forecast_stored(made.forecast)
    made_by = made.forecast.provenance
    log.info(
        "forecast_stored",
        forecast=made.forecast.id,
        venue=made_by.venue,
        origin=made_by.origin,
        model=made_by.model.name,
        source=made_by.model.source,
        side_by_side=made_by.side_by_side,
        seconds=round(made_by.timings_s["total"], 3),
    )
    return True


def _insist(workbench: Workbench, keep: Callable[[], T]) -> T:
    """What took minutes to make is not thrown away for seconds of outage."""
    while True:
        try:
            return keep()
        except StoreUnavailableError as error:
            log.warning("not_stored_yet", reason=error.message, again_in_s=STORE_AGAIN_S)
            time.sleep(STORE_AGAIN_S)
            wait_until_ready(workbench.redis)


def _progress_of_this_job() -> _Progress:
    return _Progress(partial(report_progress, [current_job()]))


class _Progress:
    """Progress is a courtesy: it is told a few times a second, and a forecast does not wait until somebody can be told."""

    def __init__(self, tell: Report) -> None:
        self._tell = tell
        self._next_at = 0.0

    def __call__(self, phase: str, done: int, total: int) -> None:
        if time.monotonic() < self._next_at:
            return
        pause = PROGRESS_EVERY_S
        try:
            self._tell(phase, done, total)
        except StoreUnavailableError:
            pause = PROGRESS_AFTER_OUTAGE_S
        self._next_at = time.monotonic() + pause


@contextmanager
def _counted(kind: Kind) -> Iterator[None]:
    """The job that runs within is told by /metrics: how long it had waited, and how it ends."""
    job_begins(current_job(), kind)
    try:
        yield
    except BaseException as error:
        job_ends(kind, "cancelled" if isinstance(error, ForecastCancelledError) else "failed")
        raise
    job_ends(kind, "finished")


@contextmanager
def _failure_kept(forecast_id: str) -> Iterator[None]:
    """What goes wrong within is raised on, with its reason kept in one sentence for whoever asks."""
    try:
        yield
    except KronosLiveError as error:
        cancelled = isinstance(error, ForecastCancelledError)
        _fail(forecast_id, str(error), permanent=error.permanent, cancelled=cancelled)
        raise
    except JobTimeoutException:
        seconds = _equipped().job_timeout_s
        reason = f"The forecast took longer than {seconds} s (queue.job_timeout); ask for fewer paths."
        _fail(forecast_id, reason, permanent=True)
        raise
    except Exception as error:
        reason = f"The forecast failed unexpectedly ({type(error).__name__}); the worker's log has the details."
        _fail(forecast_id, reason, permanent=False)
        raise


def _fail(forecast_id: str, reason: str, *, permanent: bool, cancelled: bool = False) -> None:
    job = current_job()
    tries = job.meta["tries"]
    if cancelled:
        log.info("forecast_cancelled", forecast=forecast_id, tries=tries)
    else:
        log.warning("forecast_failed", forecast=forecast_id, tries=tries, reason=reason, will_retry=not permanent)
    with suppress(StoreUnavailableError):
        record_failure(job, reason, permanent=permanent)
