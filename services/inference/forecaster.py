"""The story of one forecast: klines -> context -> tokens and paths -> prices -> statistics -> record.

Keeps the models that it has loaded. Knows neither Redis nor the queue.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import version
from pathlib import Path
from time import perf_counter

import numpy as np
import torch
from numpy.typing import NDArray

from services.inference.checkpoints import LoadedModel, ModelPolicy, load_model
from services.inference.context import Context, prepare_context
from services.inference.path_sampler import SampledPaths, SamplingOptions, sample_paths
from services.inference.path_statistics import PathStatistics, Share, StepSummary, summarise
from shared.errors import CheckpointError, RequestError
from shared.forecasts import (
    Band,
    Forecast,
    ForecastRequest,
    ModelIdentity,
    PathsInfo,
    Probability,
    Provenance,
    StepStatistics,
)
from shared.klines import CLOSE, COLUMNS, Interval, KlineWindow, utc
from shared.logs import get_logger
from shared.settings import SHORTEST_HISTORY, Settings

log = get_logger(__name__)

Report = Callable[[str, int, int], None]  # phase, steps done, steps in all

WARM_UP_PATHS = 2
WARM_UP_HORIZON = 2


class Forecaster:
    """Turns requests and klines into forecasts, with models loaded once."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._configured: LoadedModel | None = None
        self._named: tuple[tuple[str, bool], LoadedModel] | None = None

    def use_threads(self, count: int) -> None:
        """Let torch use `count` processor threads from now on."""
        if torch.get_num_threads() != count:
            torch.set_num_threads(count)

    def warm_up(self) -> None:
        """Load the configured model and run it once, so that the first forecast pays for neither. Raises CheckpointError."""
        started = perf_counter()
        name = self._settings.model.model_name
        model = self._model(name, is_default=True)
        if model.stands_in_for:
            log.warning("bundled_model_stands_in", model=model.name, configured=model.stands_in_for, reason=model.why)
        hour = Interval.H1.ms
        times = hour * np.arange(SHORTEST_HISTORY, dtype=np.int64)
        flat = np.ones((SHORTEST_HISTORY, len(COLUMNS)))
        context = self._context(model, flat, times, hour, WARM_UP_HORIZON)
        options = SamplingOptions(num_samples=WARM_UP_PATHS, temperature=1, top_k=0, top_p=0.9, seed=0)
        sample_paths(model.kronos, model.tokenizer, context, options, max_context=model.max_context)
        log.info(
            "model_ready",
            model=model.name,
            source=model.source,
            device=str(model.device),
            threads=torch.get_num_threads(),
            seconds=round(perf_counter() - started, 2),
        )

    def forecast(
        self, forecast_id: str, request: ForecastRequest, window: KlineWindow, report: Report
    ) -> tuple[Forecast, NDArray[np.float32]]:
        """The record, and all paths (num_samples, horizon, 6) in the units of the klines.

        Raises RequestError where the request does not fit model or klines, CheckpointError where the model cannot be
        loaded.
        """
        clock = _Clock()
        with clock.phase("load"):
            report("loading the model", 0, request.horizon)
            model = self._model(request.model, is_default=request.model_is_default)
        with clock.phase("context"):
            history = _history(window, request)
            context = self._context(model, history.values, history.open_times_ms, history.interval.ms, request.horizon)
        sampled = _sample(model, context, request, report)
        clock.seconds |= sampled.seconds
        with clock.phase("statistics"):
            paths = context.denormalise(sampled.normalised)
            statistics = _summarise(paths, window, request)
        provenance = self._provenance(request, window, model, context, clock)
        return _record(forecast_id, request, window, context, statistics, provenance), paths.astype(np.float32)

    def _model(self, name: str, *, is_default: bool) -> LoadedModel:
        """The configured model, loaded for good; or one that a request names, of which the last stays in memory."""
        configured = self._configured
        if is_default and name == self._settings.model.model_name:
            self._configured = configured or self._load(name, is_default=True)
            return self._configured
        if configured and configured.name == name:
            return replace(configured, stands_in_for=None, why=None)  # what was asked for by name stands in for nothing
        if self._named is None or self._named[0] != (name, is_default):
            self._named = None  # first make room
            self._named = ((name, is_default), self._load(name, is_default=is_default))
        return self._named[1]

    def _load(self, name: str, *, is_default: bool) -> LoadedModel:
        settings = self._settings.model
        policy = ModelPolicy(
            local_dir=settings.local_dir,
            max_context=settings.max_context,
            allow_hub=settings.allow_hub,
            hub_timeout_s=settings.hub_timeout,
            allow_bundled=settings.allow_bundled,
        )
        return load_model(name, policy, device=settings.device, is_default=is_default)

    def _context(
        self, model: LoadedModel, values: NDArray[np.float64], times: NDArray[np.int64], interval_ms: int, horizon: int
    ) -> Context:
        return prepare_context(
            values,
            times,
            interval_ms=interval_ms,
            horizon=horizon,
            max_context=model.max_context,
            overflow=self._settings.model.overflow,
        )

    def _provenance(
        self, request: ForecastRequest, window: KlineWindow, model: LoadedModel, context: Context, clock: _Clock
    ) -> Provenance:
        return Provenance(
            snapshot_id=request.snapshot_id,
            snapshot_sha256=window.content_hash(),
            venue=window.venue,
            origin=window.origin,
            model=ModelIdentity(
                name=model.name,
                source=model.source,
                revision=model.revision,
                sha256=model.sha256,
                tokenizer_name=model.tokenizer_name,
                tokenizer_sha256=model.tokenizer_sha256,
                published=model.published,
            ),
            model_stands_in_for=model.stands_in_for,
            model_stands_in_because=model.why,
            device=str(model.device),
            dtype=str(next(model.kronos.parameters()).dtype).removeprefix("torch."),
            threads=torch.get_num_threads(),
            seed=request.seed,
            overflow=self._settings.model.overflow,
            max_context=model.max_context,
            history_used=context.history_used,
            code_version=code_version(),
            timings_s=clock.finished(),
        )


@dataclass
class _Clock:
    """Seconds by phase, and in all since it was made."""

    started: float = field(default_factory=perf_counter)
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        began = perf_counter()
        yield
        self.seconds[name] = perf_counter() - began

    def finished(self) -> dict[str, float]:
        return {
            name: round(seconds, 6)
            for name, seconds in (self.seconds | {"total": perf_counter() - self.started}).items()
        }


@cache
def code_version() -> str:
    """The release, and the head of a hash over the engine's sources: what computed a forecast, also between releases."""
    digest = hashlib.sha256()
    for file in sorted(Path(__file__).parent.rglob("*.py")):
        digest.update(file.read_bytes())
    return f"{version('kronos-live')}+engine.{digest.hexdigest()[:12]}"


def _history(window: KlineWindow, request: ForecastRequest) -> KlineWindow:
    """The candles that the model reads: as many as asked for, or all there are since the last gap, if they are enough."""
    if len(window) < SHORTEST_HISTORY:
        raise RequestError(
            f"Only {len(window)} candles of {window.symbol} {window.interval} lie without a gap before "
            f"{utc(window.last_close_time_ms)}, but the model needs at least {SHORTEST_HISTORY}: wait for more of them.",
            field="history",
        )
    return window.tail(request.history)


def _sample(model: LoadedModel, context: Context, request: ForecastRequest, report: Report) -> SampledPaths:
    options = SamplingOptions(
        num_samples=request.num_samples,
        temperature=request.temperature,
        top_k=request.top_k,
        top_p=request.top_p,
        seed=request.seed,
    )
    return sample_paths(
        model.kronos,
        model.tokenizer,
        context,
        options,
        max_context=model.max_context,
        progress=lambda done, total: report("drawing paths", done, total),
    )


def _summarise(paths: NDArray[np.float64], window: KlineWindow, request: ForecastRequest) -> PathStatistics:
    statistics = summarise(paths, window.values[:, CLOSE], request.volatility_window)
    if statistics.upside is None:
        raise CheckpointError(
            f"None of the {len(paths)} paths that the model drew is finite: its weights do not suit these klines."
        )
    return statistics


def _record(
    forecast_id: str,
    request: ForecastRequest,
    window: KlineWindow,
    context: Context,
    statistics: PathStatistics,
    provenance: Provenance,
) -> Forecast:
    upside = _probability(statistics.upside)
    assert upside is not None  # noqa: S101 - _summarise refuses what has none
    return Forecast(
        id=forecast_id,
        created_at=datetime.now(UTC),
        request=request,
        provenance=provenance,
        last_open_time_ms=window.last_open_time_ms,
        last_close=window.last_close,
        open_times_ms=context.future_open_times_ms.tolist(),
        close=_steps(statistics.columns["close"]),
        volume=_steps(statistics.columns["volume"]),
        upside=upside,
        volatility_amplification=_probability(statistics.volatility_amplification),
        returns_compared=statistics.returns_compared,
        defective_paths=statistics.defects,
        paths=PathsInfo(shape=(request.num_samples, request.horizon, len(COLUMNS)), columns=list(COLUMNS)),
    )


def _probability(share: Share | None) -> Probability | None:
    if share is None:
        return None
    return Probability(value=share.value, lower=share.lower, upper=share.upper, paths=share.paths, of=share.of)


def _steps(summary: StepSummary) -> StepStatistics:
    return StepStatistics(
        mean=summary.mean.tolist(),
        median=summary.median.tolist(),
        minimum=summary.minimum.tolist(),
        maximum=summary.maximum.tolist(),
        bands=[
            Band(level=band.level, kind=band.kind, lower=band.lower.tolist(), upper=band.upper.tolist())
            for band in summary.bands
        ],
    )
