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

from shared.errors import OutOfMemoryError
from shared.logs import get_logger

from .context import Context
from .decode_loop import Histories, RecordedLoop, SteppingLoop
from .engine import Engine
from .memory import hand_back_freed_memory
from .token_choice import MOST_UNIFORM, Choice

log = get_logger(__name__)

Progress = Callable[[int, int], None]  # steps done, steps in all

BYTES_AT_ONCE = {"cpu": 128 * 2**20, "cuda": 8 * 2**30, "mps": 2**30}  # for the paths side by side, beyond the weights
# Products of fewer rows than this take other kernels, whose sums end in another last bit; so fewer are never sent.
FEWEST_PATHS = 4
MOST_RECORDED = 4  # shapes of forecast whose recorded steps are kept; of others the last one's caches


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
        """One seed per context; history and horizon are the same in all. Encodes the histories. Of each series at most
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
        with self._clock.phase("detokenise"):
            start = max(0, self._histories.length + self._horizon - engine.max_context)
            self._shown = engine.tokenizer.remember(tokens[:, :, start:])

    @torch.inference_mode()
    def draw(self, count: int, progress: Progress | None = None) -> list[SampledPaths]:
        """The next `count` paths of each series. `progress` is called after every step; what it raises ends the
        drawing. Where memory runs out they are begun anew, half as many side by side: a path's numbers do not depend on
        that. Raises NonFiniteLogitsError, or OutOfMemoryError where the fewest paths are too many.
        """
        while True:
            before = [generator.get_state() for generator in self._generators]
            try:
                return self._draw(count, progress)
            except (MemoryError, RuntimeError) as error:
                if not _is_out_of_memory(error):
                    raise
                _, paths = self._groups(count)
                if paths <= FEWEST_PATHS:
                    raise OutOfMemoryError(
                        f"Not even {paths} paths side by side fit the memory of this worker; ask for a shorter history or "
                        "horizon, or give the worker more memory."
                    ) from error
                self._most_at_once = paths // 2
                log.warning("out_of_memory", paths_at_once=paths, trying_with=self._most_at_once)
            for generator, state in zip(self._generators, before, strict=True):
                generator.set_state(state)
            self._engine.loops.clear()
            hand_back_freed_memory()
            if self._engine.device.type == "cuda":
                torch.cuda.empty_cache()

    def _draw(self, count: int, progress: Progress | None) -> list[SampledPaths]:
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
        tokens = drawn.unflatten(1, (-1, paths))
        with self._clock.phase("detokenise"):
            candles = self._detokenise(tokens)
        return tokens[:, :, :wanted], candles[:, :wanted]

    def _detokenise(self, tokens: Tensor) -> Tensor:
        """[2, series, paths, horizon] -> candles [series, paths, horizon, 6], in groups of their own: here all steps of a
        path are scored at once."""
        scores = 3 * self._engine.tokenizer.config.n_heads * self._horizon * self._window
        groups = -(-tokens.shape[2] // max(FEWEST_PATHS, self._most_that_fit(scores)))
        decoded = [
            self._engine.tokenizer.decode(group.flatten(1, 2), self._shown).unflatten(0, (group.shape[1], -1))
            for group in tokens.tensor_split(groups, dim=2)
        ]
        return torch.cat(decoded, dim=1)

    def _loop(self, paths: int) -> SteppingLoop | RecordedLoop:
        """What draws `paths` paths of each series, at these histories; its memory serves forecasts of this shape to come."""
        engine, histories = self._engine, self._histories
        # A window that slides has no two equal steps.
        recorded = engine.records_steps and histories.length + self._horizon <= engine.max_context
        shape = (recorded, histories.series, histories.length, self._horizon, paths, self._choice)
        if shape not in engine.loops:
            while len(engine.loops) >= (MOST_RECORDED if recorded else 1):
                del engine.loops[next(iter(engine.loops))]  # the oldest
            engine.loops[shape] = (
                RecordedLoop(engine.kronos, histories, self._choice, paths)
                if recorded
                else SteppingLoop(engine.kronos, histories, self._choice, engine.max_context)
            )
        loop: SteppingLoop | RecordedLoop = engine.loops[shape]
        with self._clock.phase("prefill"):
            loop.take_up(histories)
        return loop

    def _groups(self, count: int) -> tuple[int, int]:
        """How many groups of how many paths. Groups are of one size, so the last may draw more than are wanted."""
        most = max(FEWEST_PATHS, self._most_at_once or self._most_that_fit(self._numbers_of_a_path()))
        groups = -(-count // most)
        return groups, max(FEWEST_PATHS, -(-count // groups))

    def _numbers_of_a_path(self) -> int:
        """In the caches, and in the scores of a step, or of all steps where the window slides."""
        config, horizon = self._engine.kronos.config, self._horizon
        slides = self._histories.length + horizon > self._engine.max_context
        cached = 2 * (config.n_layers + 1) * config.d_model * horizon
        return cached + 3 * config.n_heads * self._window * (horizon if slides else 1)

    def _most_that_fit(self, numbers_of_a_path: int) -> int:
        """How many paths of each series go into BYTES_AT_ONCE."""
        return BYTES_AT_ONCE[self._engine.device.type] // (4 * numbers_of_a_path * self._histories.series)

    @property
    def _window(self) -> int:
        return min(self._histories.length + self._horizon, self._engine.max_context)


# How the machine's memory running out is told, by torch and by oneDNN, which have no class of their own for it.
OUT_OF_MEMORY_WORDS = ("not enough memory", "allocate memory", "could not create a primitive")


def _is_out_of_memory(error: Exception) -> bool:
    named = isinstance(error, MemoryError | torch.OutOfMemoryError)
    return named or any(words in str(error) for words in OUT_OF_MEMORY_WORDS)


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
