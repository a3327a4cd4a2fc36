"""The story of one forecast: klines -> context -> tokens and paths -> prices -> statistics -> record.

Keeps the models that it has loaded. Knows neither Redis nor the queue.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import version
from pathlib import Path
from time import perf_counter

import numpy as np
import torch
from numpy.typing import NDArray

from services.inference import garch
from services.inference.baselines import Baselines, state_baselines
from services.inference.calibration import recalibrate
from services.inference.checkpoint_card import Card
from services.inference.checkpoints import ModelDescription, load_model, model_policy
from services.inference.context import Context, prepare_context
from services.inference.engine import Engine, pack
from services.inference.path_sampler import PathSampler, SamplingOptions, sample_paths
from services.inference.path_statistics import (
    PathStatistics,
    StepSummary,
    paths_needed,
    summarise,
    upside_share,
)
from services.inference.precisions import choose_kernels, choose_precision
from services.inference.token_choice import Choice
from shared.calibration import SeriesCalibration
from shared.errors import CheckpointError, RequestError
from shared.forecasts import (
    Band,
    Baseline,
    Forecast,
    ForecastRequest,
    ModelIdentity,
    PathsInfo,
    Probability,
    Provenance,
    Sampling,
    StepStatistics,
    forecaster_of,
)
from shared.klines import CLOSE, COLUMNS, Interval, KlineWindow, utc
from shared.logs import get_logger
from shared.queue_overview import LoadedModel
from shared.settings import SHORTEST_HISTORY, Settings, Temperature, TopP
from shared.statistics import Share

log = get_logger(__name__)

Report = Callable[[str, int, int], None]  # phase, steps done, steps in all

WARM_UP_HORIZON = 2


@dataclass(frozen=True, kw_only=True)
class ReadyModel(ModelDescription):
    """A model packed for its device; the files that it came from are no longer in memory."""

    engine: Engine


@dataclass(frozen=True)
class Task:
    """One forecast to make. `learned`: what scored forecasts of the series have taught so far, by forecaster."""

    forecast_id: str
    request: ForecastRequest
    window: KlineWindow
    learned: Mapping[str, SeriesCalibration] = field(default_factory=dict)


@dataclass(frozen=True)
class Made:
    """A finished forecast, all its paths, float32 (num_samples, horizon, 6) in the units of the klines, and the draws that its
    baselines speak of, float16 (draws, horizon).
    """

    forecast: Forecast
    paths: NDArray[np.float32]
    baseline_draws: NDArray[np.float16]


class Forecaster:
    """Turns requests and klines into forecasts, with models loaded once."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._configured: ReadyModel | None = None
        self._named: tuple[tuple[str, bool], ReadyModel] | None = None

    def use_threads(self, count: int) -> None:
        """Let torch use `count` processor threads from now on."""
        if torch.get_num_threads() != count:
            torch.set_num_threads(count)

    def load(self) -> ReadyModel:
        """The configured model, loaded from now on. Raises CheckpointError."""
        model = self._model(self._settings.model.model_name, is_default=True)
        if model.stands_in_for:
            log.warning("bundled_model_stands_in", model=model.name, configured=model.stands_in_for, reason=model.why)
        return model

    def warm_up(self) -> None:
        """Load the configured model and run the configured forecast's first steps, so that the first forecast pays for
        neither. Raises CheckpointError.
        """
        started = perf_counter()
        model = self.load()
        hour, history = Interval.H1.ms, self._settings.data.history_window
        times = hour * np.arange(history, dtype=np.int64)
        context = self._context(model, np.ones((history, len(COLUMNS))), times, hour, WARM_UP_HORIZON)
        sampling = self._settings.sampling
        drawn = _sampling(sampling.temperature, sampling.top_p, sampling.top_k, model.card)
        options = SamplingOptions(sampling.num_samples, drawn.temperature, drawn.top_k, drawn.top_p, seed=0)
        sample_paths(model.engine, context, options)
        with_garch = garch.load()
        log.info(
            "model_ready",
            model=model.name,
            source=model.source,
            device=str(model.device),
            dtype=model.engine.precision.name,
            kernels=model.engine.kernels_name,
            threads=torch.get_num_threads(),
            garch=with_garch,
            seconds=round(perf_counter() - started, 2),
        )

    def loaded(self) -> LoadedModel | None:
        """The model that `warm_up` has loaded, in words for others."""
        model = self._configured
        if model is None:
            return None
        return LoadedModel(
            name=model.name,
            source=model.source,
            stands_in_for=model.stands_in_for,
            device=str(model.device),
            dtype=model.engine.precision.name,
            kernels=model.engine.kernels_name,
        )

    def forecast(self, task: Task, report: Report) -> Made:
        """One forecast. Raises RequestError where the request does not fit model or klines, CheckpointError where the
        model cannot be loaded.
        """
        (made,) = self.forecast_panel([task], report)
        return made

    def forecast_panel(self, tasks: Sequence[Task], report: Report) -> list[Made]:
        """Forecasts of one shape (`panel_shape`), drawn side by side; in float32 each is the same as alone. Raises as
        `forecast` does, for all of them together.
        """
        clock, request = _Clock(), tasks[0].request
        with clock.phase("load"):
            report("loading the model", 0, request.horizon)
            model = self._model(request.model, is_default=request.model_is_default)
        with clock.phase("context"):
            histories = [_history(task.window, task.request) for task in tasks]
            contexts = [
                self._context(model, history.values, history.open_times_ms, history.interval.ms, request.horizon)
                for history in histories
            ]
        made: list[Made | None] = [None] * len(tasks)
        for places in _of_one_length(contexts):
            panel = [tasks[place] for place in places]
            finished = self._draw(model, panel, [contexts[place] for place in places], clock.copy(), report)
            for place, one in zip(places, finished, strict=True):
                made[place] = one
        return [one for one in made if one is not None]

    def _draw(
        self, model: ReadyModel, tasks: Sequence[Task], contexts: Sequence[Context], clock: _Clock, report: Report
    ) -> list[Made]:
        request = tasks[0].request
        sampling = _sampling(request.temperature, request.top_p, request.top_k, model.card)
        choice = Choice(sampling.temperature, sampling.top_k, sampling.top_p)
        sampler = PathSampler(model.engine, contexts, choice, [task.request.seed for task in tasks])

        def progress(done: int, total: int) -> None:
            report("drawing paths", done, total)

        def draw(count: int) -> list[NDArray[np.float64]]:
            drawn = sampler.draw(count, progress)
            return [context.denormalise(one.normalised) for context, one in zip(contexts, drawn, strict=True)]

        panel = draw(request.num_samples)
        if request.target_error:
            panel = [self._draw_until(request, tasks[0].window.last_close, panel[0], draw)]
        with clock.phase("statistics"):
            statistics = [_summarise(paths, task) for paths, task in zip(panel, tasks, strict=True)]
        with clock.phase("baselines"):
            baselines = [_baselines(task) for task in tasks]
        clock.seconds |= sampler.seconds
        made = []
        for task, context, summary, paths, plain in zip(tasks, contexts, statistics, panel, baselines, strict=True):
            provenance = self._provenance(task, model, context, clock, len(tasks))
            forecast = _recalibrated(_record(task, context, summary, sampling, provenance, plain.stated), task)
            made.append(Made(forecast, paths.astype(np.float32), plain.draws))
        return made

    def _draw_until(
        self,
        request: ForecastRequest,
        last_close: float,
        paths: NDArray[np.float64],
        draw: Callable[[int], list[NDArray[np.float64]]],
    ) -> NDArray[np.float64]:
        """Draw on until the Wilson half-width of the upside probability is at most request.target_error, or until there
        are limits.max_num_samples paths. How many that takes hangs on the paths alone, so the seed settles it.
        """
        most = max(self._settings.limits.max_num_samples, request.num_samples)
        while len(paths) < most:
            upside = upside_share(paths, last_close)
            if upside is None or upside.half_width <= request.target_error:
                break
            missing = paths_needed(upside, request.target_error) - len(paths)
            more = min(most - len(paths), max(missing, request.num_samples))
            paths = np.concatenate((paths, *draw(more)))
        return paths

    def _model(self, name: str, *, is_default: bool) -> ReadyModel:
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

    def _load(self, name: str, *, is_default: bool) -> ReadyModel:
        settings = self._settings.model
        loaded = load_model(name, model_policy(settings), device=settings.device, is_default=is_default)
        kernels = choose_kernels(settings.kernels, loaded.device)
        precision = choose_precision(settings.dtype, loaded.device, kernels)
        engine = pack(loaded.kronos, loaded.tokenizer, precision, loaded.max_context, kernels)
        description = {field.name: getattr(loaded, field.name) for field in fields(ModelDescription)}
        return ReadyModel(engine=engine, **description)

    def _context(
        self, model: ReadyModel, values: NDArray[np.float64], times: NDArray[np.int64], interval_ms: int, horizon: int
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
        self, task: Task, model: ReadyModel, context: Context, clock: _Clock, side_by_side: int
    ) -> Provenance:
        request, window = task.request, task.window
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
                trained_until_ms=model.card.trained_until_ms,
            ),
            model_stands_in_for=model.stands_in_for,
            model_stands_in_because=model.why,
            device=str(model.device),
            dtype=model.engine.precision.name,
            kernels=model.engine.kernels_name,
            side_by_side=side_by_side,
            threads=torch.get_num_threads(),
            seed=request.seed,
            overflow=self._settings.model.overflow,
            max_context=model.max_context,
            history_used=context.history_used,
            code_version=code_version(),
            timings_s=clock.finished(),
        )


def _sampling(temperature: Temperature, top_p: TopP, top_k: int, card: Card) -> Sampling:
    """With the card's words where auto was asked for."""
    suits = card.sampling
    return Sampling(
        temperature=suits.temperature if temperature == "auto" else temperature,
        top_p=suits.top_p if top_p == "auto" else top_p,
        top_k=top_k,
    )


def panel_shape(request: ForecastRequest) -> Hashable | None:
    """Forecasts of equal shape can be drawn side by side; None: only alone, since it alone knows when it has enough."""
    if request.target_error:
        return None
    named = ("horizon", "history", "num_samples", "temperature", "top_p", "top_k", "model", "model_is_default")
    return tuple(getattr(request, name) for name in named)


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

    def copy(self) -> _Clock:
        return _Clock(self.started, dict(self.seconds))

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


def _of_one_length(contexts: Sequence[Context]) -> list[list[int]]:
    """The places of contexts whose histories are equally long, since only those can go side by side."""
    by_length: dict[int, list[int]] = {}
    for place, context in enumerate(contexts):
        by_length.setdefault(context.history_used, []).append(place)
    return list(by_length.values())


def _summarise(paths: NDArray[np.float64], task: Task) -> PathStatistics:
    statistics = summarise(paths, task.window.values[:, CLOSE], task.request.volatility_window)
    if statistics.upside is None:
        raise CheckpointError(
            f"None of the {len(paths)} paths that the model drew is finite: its weights do not suit these klines."
        )
    return statistics


def _baselines(task: Task) -> Baselines:
    """From the history that the model reads, and one close more, so that there are as many returns as candles."""
    closes = task.window.values[-task.request.history - 1 :, CLOSE]
    return state_baselines(closes, task.request.horizon, np.random.default_rng(task.request.seed))


def _record(
    task: Task,
    context: Context,
    statistics: PathStatistics,
    sampling: Sampling,
    provenance: Provenance,
    baselines: Sequence[Baseline],
) -> Forecast:
    request, window, upside = task.request, task.window, _probability(statistics.upside)
    assert upside is not None  # noqa: S101 - _summarise refuses what has none
    return Forecast(
        id=task.forecast_id,
        created_at=datetime.now(UTC),
        request=request,
        sampling=sampling,
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
        paths=PathsInfo(shape=(statistics.paths, request.horizon, len(COLUMNS)), columns=list(COLUMNS)),
        baselines=list(baselines),
    )


def _recalibrated(forecast: Forecast, task: Task) -> Forecast:
    """With what its scored forerunners taught beside it, where there were enough."""
    learned = task.learned.get(forecaster_of(forecast))
    if learned is None:
        return forecast
    return forecast.model_copy(update={"recalibrated": recalibrate(forecast, learned)})


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
