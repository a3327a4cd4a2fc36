"""Sampled continuations of one or several histories: encode each once, prefill it once, fan out to N paths.

The history's tokens are evaluated once for all paths; each path adds only its own. The same arithmetic as repeating
the history per path and re-running the window at each step (tests/parity/oracle.py is that slow way), with hundreds of
times fewer token evaluations. Several series of one shape (a panel) go through side by side, and many paths in groups
that fit the memory; neither changes a token in float32. Randomness comes from a seed per series alone. Knows tokens and
normalised candles, not prices or time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import perf_counter

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .context import Context
from .decode_loop import Histories, RecordedLoop, SteppingLoop
from .engine import Engine
from .token_choice import MOST_UNIFORM, Choice

Progress = Callable[[int, int], None]  # steps done, steps in all

BYTES_AT_ONCE = {"cpu": 128 * 2**20, "cuda": 8 * 2**30, "mps": 2**30}  # for the paths side by side, beyond the weights
# Products of fewer rows than this take other kernels, whose sums end in another last bit; so fewer are never sent.
FEWEST_PATHS = 4
MOST_RECORDED = 4  # shapes of forecast whose recorded steps are kept


@dataclass(frozen=True)
class SamplingOptions:
    """How tokens are drawn: see token_choice. `seed` is any 64-bit whole number."""

    num_samples: int
    temperature: float
    top_k: int
    top_p: float
    seed: int

    @property
    def choice(self) -> Choice:
        return Choice(self.temperature, self.top_k, self.top_p)


@dataclass(frozen=True)
class SampledPaths:
    normalised: NDArray[np.float32]  # [num_samples, horizon, 6]
    s1: NDArray[np.int64]  # [num_samples, horizon], coarse tokens
    s2: NDArray[np.int64]  # [num_samples, horizon], fine tokens
    seconds: dict[str, float] = field(compare=False)  # by phase, of all series together: PHASES


PHASES = ("encode", "prefill", "decode", "detokenise")


def sample_paths(
    engine: Engine, context: Context, options: SamplingOptions, *, progress: Progress | None = None
) -> SampledPaths:
    """Past the engine's max_context the window slides, exact and slow, as the reference.

    `progress` is called after every step; what it raises ends the sampling. Raises NonFiniteLogitsError.
    """
    (paths,) = PathSampler(engine, [context], options.choice, [options.seed]).draw(options.num_samples, progress)
    return paths


class PathSampler:
    """A panel in hand: series of one shape, whose paths can be drawn in one go or bit by bit.

    Path i of a series is the same whichever way, and whatever lies beside it.
    """

    @torch.inference_mode()
    def __init__(
        self,
        engine: Engine,
        contexts: Sequence[Context],
        choice: Choice,
        seeds: Sequence[int],
        *,
        most_at_once: int | None = None,
    ) -> None:
        """One seed per context; history and horizon are the same in all. Encodes and prefills. Of each series at most
        `most_at_once` paths go side by side; None: as many as fit BYTES_AT_ONCE.
        """
        self._engine, self._choice = engine, choice
        self._most_at_once = most_at_once
        self._horizon = contexts[0].horizon
        self._clock = _PhaseClock(engine.device)
        self._generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        with self._clock.phase("encode"):
            candles = np.stack([context.normalised for context in contexts])
            tokens = engine.tokenizer.encode(torch.from_numpy(candles).to(engine.device))
        self._histories = Histories(tokens, _embedded_time(engine, contexts))
        self._stepping: SteppingLoop | None = None
        if not self._is_recorded:
            with self._clock.phase("prefill"):
                self._stepping = SteppingLoop(engine.kronos, self._histories, choice, engine.max_context)
        with self._clock.phase("detokenise"):
            start = max(0, self._histories.length + self._horizon - engine.max_context)
            self._shown = engine.tokenizer.remember(tokens[:, :, start:])

    @torch.inference_mode()
    def draw(self, count: int, progress: Progress | None = None) -> list[SampledPaths]:
        """The next `count` paths of each series. `progress` is called after every step; what it raises ends the
        drawing. Raises NonFiniteLogitsError.
        """
        groups, paths = self._groups(count)
        tokens, candles = [], []
        for group in range(groups):
            wanted = min(paths, count - group * paths)
            drawn = self._draw_group(paths, wanted, group * self._horizon, groups * self._horizon, progress)
            tokens.append(drawn[0])
            candles.append(drawn[1])
        s1, s2 = torch.cat(tokens, dim=2).cpu().numpy()
        normalised = torch.cat(candles, dim=1).cpu().numpy()
        return [SampledPaths(*parts, self.seconds) for parts in zip(normalised, s1, s2, strict=True)]

    @property
    def seconds(self) -> dict[str, float]:
        """Spent so far, by phase (PHASES), on all series together."""
        return dict(self._clock.seconds)

    def _draw_group(
        self, paths: int, wanted: int, steps_before: int, steps: int, progress: Progress | None
    ) -> tuple[Tensor, Tensor]:
        """`wanted` paths of each series, computed as `paths` -> tokens [2, series, wanted, horizon] and their candles
        [series, wanted, horizon, 6]."""

        def on_step(done: int) -> None:
            if progress is not None:
                progress(steps_before + done, steps)

        uniforms = torch.full((len(self._generators), paths, self._horizon, 2), 0.5, dtype=torch.float64)
        for numbers, generator in zip(uniforms, self._generators, strict=True):
            numbers[:wanted] = draw_uniforms(generator, wanted, self._horizon)
        loop = self._loop(paths)
        with self._clock.phase("decode"):
            drawn = loop.run(uniforms.flatten(0, 1).to(_float64_device(self._engine.device)), on_step)
        with self._clock.phase("detokenise"):
            candles = self._engine.tokenizer.decode(drawn, self._shown)
        tokens = drawn.unflatten(1, (-1, paths))
        return tokens[:, :, :wanted], candles.unflatten(0, (-1, paths))[:, :wanted]

    @property
    def _is_recorded(self) -> bool:
        return (
            self._engine.records_steps and self._histories.length + self._horizon <= self._engine.max_context
        )  # a window that slides has no two equal steps

    def _loop(self, paths: int) -> SteppingLoop | RecordedLoop:
        """What draws `paths` paths of each series, at these histories."""
        if self._stepping is not None:
            return self._stepping
        shape = (self._histories.series, self._histories.length, self._horizon, paths, self._choice)
        recorded = self._engine.recorded
        if shape not in recorded:
            while len(recorded) >= MOST_RECORDED:
                del recorded[next(iter(recorded))]  # the oldest: each holds its caches and a graph
            recorded[shape] = RecordedLoop(self._engine.kronos, self._histories, self._choice, paths)
        loop: RecordedLoop = recorded[shape]
        with self._clock.phase("prefill"):
            loop.take_up(self._histories)
        return loop

    def _groups(self, count: int) -> tuple[int, int]:
        """How many groups of how many paths. Groups are of one size, so the last may draw more than are wanted."""
        most = max(FEWEST_PATHS, self._most_at_once or self._most_that_fit())
        groups = -(-count // most)
        return groups, max(FEWEST_PATHS, -(-count // groups))

    def _most_that_fit(self) -> int:
        """How many paths of each series have their caches and scores in BYTES_AT_ONCE."""
        engine, series, horizon = self._engine, self._histories.series, self._horizon
        window = min(self._histories.length + horizon, engine.max_context)
        slides = self._histories.length + horizon > engine.max_context
        config, heads = engine.kronos.config, engine.tokenizer.config.n_heads
        cached = 2 * (config.n_layers + 1) * config.d_model * horizon
        scores = 3 * max(heads, config.n_heads if slides else 0) * horizon * window
        return BYTES_AT_ONCE[engine.device.type] // (4 * (cached + scores) * series)


def draw_uniforms(generator: torch.Generator, paths: int, horizon: int) -> Tensor:
    """The generator's next numbers, float64 [paths, horizon, 2] for (coarse, fine). Path i's numbers do not depend on how
    many paths follow, nor on how many are drawn at once."""
    return torch.rand((paths, horizon, 2), generator=generator, dtype=torch.float64).clamp_(max=MOST_UNIFORM)


def _embedded_time(engine: Engine, contexts: Sequence[Context]) -> Tensor:
    """[series, h + horizon, d_model]."""
    features = [np.concatenate((one.past_time_features, one.future_time_features)) for one in contexts]
    return engine.kronos.embed_time(torch.from_numpy(np.stack(features)).to(engine.device))


class _PhaseClock:
    """Seconds by phase. On an accelerator a phase ends when its work is done, not when it was enqueued."""

    def __init__(self, device: torch.device) -> None:
        self.seconds: dict[str, float] = dict.fromkeys(PHASES, 0.0)
        self._device = device

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        started = perf_counter()
        yield
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        self.seconds[name] += perf_counter() - started


def _float64_device(device: torch.device) -> torch.device:
    return torch.device("cpu") if device.type == "mps" else device
