"""Sampled continuations of one history: encode it once, prefill it once with batch 1, fan out to N paths.

The history's tokens are evaluated once for all paths; each path adds only its own. The same arithmetic as repeating
the history per path and re-running the window at each step (tests/parity/oracle.py is that slow way), with hundreds of
times fewer token evaluations. Randomness comes from a seed alone: the same context, options and weights give the same
paths on the same device, whatever ran before. Knows tokens and normalised candles, not prices or time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import perf_counter

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .context import Context
from .model.kronos import Kronos
from .model.tokenizer import KronosTokenizer
from .token_choice import draw, next_token_distribution

Progress = Callable[[int, int], None]  # steps done, steps in all

BYTES_AT_ONCE = 256 * 2**20  # what the paths sampled side by side may take beyond the weights, roughly


@dataclass(frozen=True)
class SamplingOptions:
    """How tokens are drawn: see token_choice. `seed` is any 64-bit whole number."""

    num_samples: int
    temperature: float
    top_k: int
    top_p: float
    seed: int


@dataclass(frozen=True)
class SampledPaths:
    normalised: NDArray[np.float32]  # [num_samples, horizon, 6]
    s1: NDArray[np.int64]  # [num_samples, horizon], coarse tokens
    s2: NDArray[np.int64]  # [num_samples, horizon], fine tokens
    seconds: dict[str, float] = field(compare=False)  # by phase: encode, prefill, sample, decode


@torch.inference_mode()
def sample_paths(
    model: Kronos,
    tokenizer: KronosTokenizer,
    context: Context,
    options: SamplingOptions,
    *,
    max_context: int,
    progress: Progress | None = None,
) -> SampledPaths:
    """Both modules in eval mode on one device. Past max_context the window slides, exact and slow, as the reference.

    `progress` is called after every step; what it raises ends the sampling. Raises NonFiniteLogitsError.
    """
    clock = _PhaseClock(_device(model))
    groups = _row_groups(model, tokenizer, context, options.num_samples, max_context)
    with clock.phase("encode"):
        history = torch.stack(tokenizer.encode(_on(model, context.normalised)[None]))[:, 0]
    with clock.phase("prefill"):
        window = _Window(model, history, context, max_context, most_rows=max(groups))
        window.last_hidden(0)
    with clock.phase("sample"):
        paths = _draw_paths(window, options, groups, progress)
    with clock.phase("decode"):
        candles = _decode_paths(tokenizer, history, paths, groups, max_context)
    return SampledPaths(candles.cpu().numpy(), paths[0].cpu().numpy(), paths[1].cpu().numpy(), clock.seconds)


def draw_uniforms(options: SamplingOptions, horizon: int) -> Tensor:
    """float64 [num_samples, horizon, 2] for (coarse, fine). Path i's numbers do not depend on how many paths follow."""
    generator = torch.Generator().manual_seed(options.seed)
    return torch.rand((options.num_samples, horizon, 2), generator=generator, dtype=torch.float64)


class _Window:
    """The last max_context tokens that the model sees: shared history, then each row's own tokens."""

    def __init__(self, model: Kronos, history: Tensor, context: Context, max_context: int, most_rows: int) -> None:
        self.model = model
        self.horizon = context.horizon
        self._history = history  # [2, h]: coarse, fine
        self._times = _on(model, np.concatenate((context.past_time_features, context.future_time_features)))
        self._max_context = max_context
        self._prefix_start = -1
        self._prefix_hidden = history.new_empty(0)
        self.cache = model.new_cache(most_rows, context.horizon)
        self.tokens = history.new_empty((2, most_rows, context.horizon))

    def start_rows(self, rows: int) -> None:
        """Begin a group of paths behind the same history."""
        self.cache.start_rows(rows)
        self.tokens = self._history.new_empty((2, rows, self.horizon))

    def last_hidden(self, step: int) -> Tensor:
        """The hidden state [rows, d_model] that predicts `step`, once tokens[:, :, :step] are drawn ([1, d_model] at
        step 0, where all rows still share it). Steps come in order.
        """
        history = self._history.shape[1]
        start = max(0, history + step - self._max_context)
        fresh = step - 1
        if start != self._prefix_start:
            # The window slid (or is new): positions shifted for every token, so all of it is computed again.
            self.cache.clear()
            self._prefix_start = start
            self._prefix_hidden = self._run(self._history[:, None, start:], start)
            fresh = 0  # no horizon is longer than max_context, so every drawn token is still in the window
        if step == 0:
            return self._prefix_hidden[:, -1]
        return self._run(self.tokens[:, :, fresh:step], history + fresh)[:, -1]

    def _run(self, tokens: Tensor, first: int) -> Tensor:
        """tokens [2, batch, t], the first of them at place `first` of history and horizon -> hidden states."""
        times = self._times[None, first : first + tokens.shape[2]]
        return self.model.trunk(self.model.embed(tokens[0], tokens[1], times), self.cache)


def _draw_paths(window: _Window, options: SamplingOptions, groups: list[int], progress: Progress | None) -> Tensor:
    """-> [2, num_samples, horizon]: coarse and fine tokens."""
    uniforms = draw_uniforms(options, window.horizon).to(_float64_device(window.model))
    drawn: list[Tensor] = []
    for index, group in enumerate(uniforms.split(groups)):
        window.start_rows(len(group))
        for step in range(window.horizon):
            _draw_step(window, step, group[:, step], options)
            if progress is not None:
                progress(index * window.horizon + step + 1, len(groups) * window.horizon)
        drawn.append(window.tokens)
    return torch.cat(drawn, dim=1)


def _draw_step(window: _Window, step: int, uniforms: Tensor, options: SamplingOptions) -> None:
    """Draw the coarse and then the fine token of one step for all rows; uniforms [rows, 2]."""

    def choose(logits: Tensor, numbers: Tensor) -> Tensor:
        distribution = next_token_distribution(
            logits, temperature=options.temperature, top_k=options.top_k, top_p=options.top_p
        )
        return draw(distribution, numbers).to(logits.device)

    hidden = window.last_hidden(step)
    s1 = choose(window.model.s1_logits(hidden), uniforms[:, 0])
    s2 = choose(window.model.s2_logits(hidden, s1, window.cache), uniforms[:, 1])
    window.tokens[0, :, step], window.tokens[1, :, step] = s1, s2


def _decode_paths(
    tokenizer: KronosTokenizer, history: Tensor, paths: Tensor, groups: list[int], max_context: int
) -> Tensor:
    """history [2, h], paths [2, num_samples, horizon] -> normalised candles [num_samples, horizon, 6].

    The decoder sees the last max_context tokens of history and path.
    """
    horizon = paths.shape[2]
    start = max(0, history.shape[1] + horizon - max_context)
    cache = tokenizer.new_cache(max(groups), horizon)
    tokenizer.decode(history[0, None, start:], history[1, None, start:], cache)
    candles: list[Tensor] = []
    for group in paths.split(groups, dim=1):
        cache.start_rows(group.shape[1])
        candles.append(tokenizer.decode(group[0], group[1], cache))
    return torch.cat(candles)


def _row_groups(
    model: Kronos, tokenizer: KronosTokenizer, context: Context, num_samples: int, max_context: int
) -> list[int]:
    """How many paths are sampled side by side: all, unless their caches and scores would not fit BYTES_AT_ONCE."""
    window = min(context.history_used + context.horizon, max_context)
    slides = context.history_used + context.horizon > max_context
    config, heads = model.config, tokenizer.config.n_heads
    cached = 2 * config.n_layers * config.d_model * context.horizon
    scores = 3 * max(heads, config.n_heads if slides else 0) * context.horizon * window
    rows = max(1, min(num_samples, BYTES_AT_ONCE // (4 * (cached + scores))))
    return [min(rows, num_samples - first) for first in range(0, num_samples, rows)]


class _PhaseClock:
    """Seconds by phase. On an accelerator a phase ends when its work is done, not when it was enqueued."""

    def __init__(self, device: torch.device) -> None:
        self.seconds: dict[str, float] = {}
        self._device = device

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        started = perf_counter()
        yield
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        self.seconds[name] = perf_counter() - started


def _device(model: Kronos) -> torch.device:
    return model.head.proj_s1.weight.device


def _float64_device(model: Kronos) -> torch.device:
    device = _device(model)
    return torch.device("cpu") if device.type == "mps" else device


def _on(model: Kronos, array: NDArray[np.float32] | NDArray[np.int64]) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array)).to(_device(model))
