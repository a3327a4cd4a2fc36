"""One forecast without any service: model -> klines -> forecast -> scores of earlier ones -> files. What `once` runs.

Fetches by ingest's own cycle and forecasts by the worker's own forecaster, so that what is stored is what the services would
have stored: a forecast of the schedule, under the same id and with the same seed. Knows neither how Redis came to be nor
how the phases are shown.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from services.inference.forecaster import Forecaster, ReadyModel, Task
from services.inference.memory import keep_freed_memory
from services.inference.processors import cores_available
from services.ingest.cycle import Brought, Cycle, scheduled_request
from services.ingest.market import Market
from services.ingest.schedule import next_fetch_time
from services.ingest.venue_clock import VenueClock
from services.web.path_formats import csv_rows
from shared.calibration_store import CalibrationStore
from shared.due_forecasts import is_any_due
from shared.errors import KronosLiveError, SettingsError, VenueError
from shared.forecast_queue import ForecastQueue
from shared.forecast_store import ForecastStore
from shared.forecasts import Forecast, ForecastRequest, adhoc_forecast_id, scheduled_forecast_id
from shared.imported_scoring import score_imported
from shared.kline_store import KlineStore
from shared.klines import utc
from shared.labels import forecast_labels
from shared.redis_connection import connect
from shared.settings import Settings

RECORD_FILE, PATHS_FILE = "forecast.json", "paths.csv"


class Phase(Protocol):
    """One part of the run, while it goes on."""

    def done(self, words: str) -> None:
        """What came of it."""

    def progress(self, done: int, total: int) -> None:
        """How many of its steps are done."""


Announce = Callable[[str], AbstractContextManager[Phase]]  # begins the phase of that name; its end ends it


@dataclass(frozen=True)
class Finished:
    """What a run leaves: the forecast, what must be said about it first, and its files."""

    forecast: Forecast
    warnings: list[str]
    files: list[Path]


def run_once(settings: Settings, out: Path, announce: Announce) -> Finished:
    """Forecast the newest closed candle of data.symbol, store it in redis.url, and write its files into `out`.

    Raises VenueError where no venue gives klines and none may be made up, CheckpointError where there is no model,
    SettingsError where `out` cannot be written to, StoreUnavailableError.
    """
    _make_folder(out)
    redis = connect(settings.redis)
    klines = KlineStore(redis, settings.retention.snapshots_per_series)
    forecasts = ForecastStore(redis, settings.retention.forecasts_per_series)
    calibrations = CalibrationStore(redis)
    with announce("model") as phase:
        keep_freed_memory()
        forecaster = Forecaster(settings)
        forecaster.use_threads(settings.worker.threads or cores_available())
        model = forecaster.load()
        phase.done(_in_words(model))
    with announce("data") as phase:
        brought = _bring(settings, klines, forecasts, ForecastQueue(redis, settings.queue))
        window = brought.window
        phase.done(
            f"{len(window)} candles of {window.symbol} {window.interval} from {window.venue}, the last of "
            f"{utc(window.last_open_time_ms)}"
        )
    with announce("forecast") as phase:
        forecast, paths = _forecast(settings, forecaster, model, brought, forecasts, calibrations, phase)
    _score_earlier(klines, forecasts, calibrations, brought, announce)
    with announce("outputs") as phase:
        files = write_outputs(forecast, paths, out)
        if forecast.request.scheduled and find_spec("matplotlib"):  # a site shows the schedule's newest forecast
            files += _write_site(settings, klines, forecasts, forecast, out)
        phase.done(", ".join(map(str, files)))
    return Finished(forecast, _warnings(forecast, brought.problem), files)


def write_outputs(forecast: Forecast, paths: NDArray[np.float32], out: Path) -> list[Path]:
    """The record with its labels as JSON, and all paths (paths, horizon, columns) as CSV; returns where they are."""
    record, rows = out / RECORD_FILE, out / PATHS_FILE
    labelled = {"labels": forecast_labels(forecast), **forecast.model_dump(mode="json")}
    try:
        record.write_text(json.dumps(labelled, indent=1) + "\n", encoding="utf-8")
        rows.write_text("".join(csv_rows(forecast, paths)), encoding="utf-8")
    except OSError as error:
        raise _cannot_write(out, error) from None
    return [record, rows]


def _write_site(
    settings: Settings, klines: KlineStore, forecasts: ForecastStore, forecast: Forecast, out: Path
) -> list[Path]:
    """The static site of the series, as `kronos-live export` writes it; returns where its files are. Raises PublishError."""
    from services.publishing.folder import write_whole  # with matplotlib, which not everybody installs
    from services.publishing.site import site_files
    from services.publishing.told import tell

    series, calibrates = forecast.request, settings.calibration.enabled
    told = tell(klines, forecasts, series.symbol, series.interval, _now_ms(), calibrates=calibrates)
    site = site_files(told)
    write_whole(out, site)
    return [out / name for name in site]


def _make_folder(out: Path) -> None:
    """Before any work is done. Raises SettingsError."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _cannot_write(out, error) from None


def _cannot_write(out: Path, error: OSError) -> SettingsError:
    return SettingsError(f"The folder {out} of --out cannot be written to ({error}): name another.")


def _bring(settings: Settings, klines: KlineStore, forecasts: ForecastStore, queue: ForecastQueue) -> Brought:
    """The newest klines, stored; where there are none that is stored as well, so that no page takes the series for live."""
    clock = VenueClock(_now_ms)
    market = Market(settings, clock, _now_ms)
    cycle = Cycle(
        settings,
        market=market,
        clock=clock,
        klines=klines,
        forecasts=forecasts,
        queue=queue,
        settle_seconds=settings.venues.settle_seconds,
    )
    try:
        brought = cycle.bring(None)
    except VenueError as error:
        interval = market.series.interval
        cycle.report_failure(error, next_fetch_time(interval, clock.now_ms(), cycle.settle_seconds))
        raise
    if not brought.is_newest:
        raise KronosLiveError(
            f"Another ingest has meanwhile had real klines of {market.series}, so made-up ones are not forecast: run once more."
        )
    return brought


def _forecast(
    settings: Settings,
    forecaster: Forecaster,
    model: ReadyModel,
    brought: Brought,
    forecasts: ForecastStore,
    calibrations: CalibrationStore,
    phase: Phase,
) -> tuple[Forecast, NDArray[np.float32]]:
    """The forecast after the newest candle and its paths (paths, horizon, columns), stored: the one that is there already, if
    it was asked for in the same way; else a new one beside it, which no schedule counts.
    """
    window = brought.window
    forecast_id = scheduled_forecast_id(window.symbol, window.interval, window.last_open_time_ms, window.origin)
    request = scheduled_request(settings, window, brought.snapshot_id)
    if forecasts.exists(forecast_id):
        stored = forecasts.load(forecast_id)
        if _is_same(stored, request, model):
            phase.done(f"{forecast_id} was made before, on the same candle")
            return stored, forecasts.load_paths(forecast_id)
        forecast_id, request = adhoc_forecast_id(), request.model_copy(update={"scheduled": False})
    learned = calibrations.load(window.symbol, window.interval, window.origin) if settings.calibration.enabled else {}

    def report(words: str, done: int, total: int) -> None:
        if words == "drawing paths":
            phase.progress(done, total)

    made = forecaster.forecast(Task(forecast_id, request, window, learned), report)
    forecasts.save(made.forecast, made.paths, made.baseline_draws)
    beside = "" if request.scheduled else ", beside the one that was asked for otherwise on this candle"
    phase.done(f"{forecast_id}: {len(made.paths)} paths, {request.horizon} candles ahead{beside}")
    return made.forecast, made.paths


def _is_same(stored: Forecast, request: ForecastRequest, model: ReadyModel) -> bool:
    """Also where the venue has meanwhile revised its history: the schedule makes one forecast of a candle."""
    asked = stored.request.model_copy(update={"snapshot_id": request.snapshot_id})
    return asked == request and stored.provenance.model.sha256 == model.sha256


def _score_earlier(
    klines: KlineStore,
    forecasts: ForecastStore,
    calibrations: CalibrationStore,
    brought: Brought,
    announce: Announce,
) -> None:
    """What earlier runs forecast and has closed since, as a worker would do it after each candle."""
    window = brought.window
    if not is_any_due(forecasts, window):
        return
    from services.inference.scorekeeper import Stores, score_due  # it brings libraries that a forecast does not need

    with announce("scores") as phase:
        stores = Stores(klines, forecasts, calibrations)
        # A recording's last candle is its now: by our clock what follows it would be missing already, and noted so for good.
        now_ms = window.last_close_time_ms if window.origin == "recorded" else _now_ms()
        entries = score_due(stores, window.symbol, window.interval, now_ms)
        imported = score_imported(forecasts.imported, klines, window.symbol, window.interval, now_ms)
        told = f"in the ledger now: {', '.join(entry.forecast_id for entry in entries) or 'none of ours'}"
        phase.done(told + (f", {imported:,} imported" if imported else ""))


def _in_words(model: ReadyModel) -> str:
    stands_in = f", stands in for {model.stands_in_for}" if model.stands_in_for else ""
    return f"{model.name} ({model.source}{stands_in}) on {model.device}, {model.engine.precision.name}"


def _warnings(forecast: Forecast, problem: str | None) -> list[str]:
    """What a reader must know first, a sentence each, the labels in capitals before all."""
    labels, made_by = forecast_labels(forecast), forecast.provenance
    said = [f"{', '.join(labels)}."] if labels else []
    if problem:
        said.append(problem)
    if made_by.model_stands_in_for:
        said.append(
            f"{made_by.model.name} stands in for {made_by.model_stands_in_for}: {made_by.model_stands_in_because}"
        )
    return said


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
