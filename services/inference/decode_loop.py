"""The steps of drawing paths: hidden state -> coarse token -> fine token -> next hidden state, all rows side by side.

Two loops that draw the same tokens. `SteppingLoop` does at each step just what is needed and can slide its window.
`RecordedLoop` makes every step the same kernels on the same memory, so that CUDA records them once as a graph and then
replays them without the host. Knows tokens; not candles, prices or where uniform numbers come from.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from .engine.kronos import KronosCaches, PackedKronos
from .engine.place import Place, Slot, Span
from .token_choice import Choice, NonFiniteLogitsError, choose

OnStep = Callable[[int], None]  # steps done


@dataclass(frozen=True)
class Histories:
    """What the paths of each series share."""

    tokens: Tensor  # int64 [2, series, h]: coarse, fine
    time: Tensor  # [series, h + horizon, d_model], embedded

    @property
    def series(self) -> int:
        return self.tokens.shape[1]

    @property
    def length(self) -> int:
        return self.tokens.shape[2]

    @property
    def horizon(self) -> int:
        return self.time.shape[1] - self.length


class SteppingLoop:
    """Any device, any window. Past max_context tokens the window slides, exact and slow, as the reference.

    Its caches are allocated once and serve one forecast after another (`take_up`).
    """

    def __init__(self, model: PackedKronos, like: Histories, choice: Choice, max_context: int) -> None:
        self._model, self._choice = model, choice
        self._max_context = max_context
        self._caches = model.new_caches(like.series)
        self._paths = 0
        self._prefix_start = -1
        self._prefix_hidden = like.time[:, 0]
        self._histories = like

    def take_up(self, histories: Histories) -> None:
        """Prefill these histories, as many as the loop was made for, unless it is at them already."""
        if histories is not self._histories:
            self._histories, self._prefix_start = histories, -1
        self._prefill(0)

    def run(self, uniforms: Tensor, on_step: OnStep) -> Tensor:
        """uniforms [series * paths, horizon, 2], the paths of a series together -> tokens [2, series * paths, horizon].

        Raises NonFiniteLogitsError.
        """
        rows, horizon = uniforms.shape[:2]
        self._paths = rows // self._histories.series
        self._caches.reserve(self._paths, horizon)
        tokens = self._histories.tokens.new_empty((2, rows, horizon))
        finite = torch.ones((), dtype=torch.bool, device=tokens.device)
        for step in range(horizon):
            hidden, place = self._hidden(tokens, step)
            finite &= choose_tokens(
                self._model, hidden, self._caches, place, uniforms[:, step], self._choice, tokens[:, :, step]
            )
            on_step(step + 1)
        refuse_non_finite(finite)
        return tokens

    def _hidden(self, tokens: Tensor, step: int) -> tuple[Tensor, Place]:
        """What predicts `step`, once tokens[:, :, :step] are drawn: [rows, d_model], and where its token was put."""
        start = max(0, self._histories.length + step - self._max_context)
        fresh = step - 1
        if start != self._prefix_start:
            # The window slid: positions shifted for every token, so all of it is computed again.
            self._prefill(start)
            self._caches.reserve(self._paths, self._histories.horizon)
            fresh = 0  # no horizon is longer than max_context, so every drawn token is still in the window
        if step == 0:
            return self._prefix_hidden.repeat_interleave(self._paths, 0), Span(0, 0)
        place = Span(fresh, step - fresh)
        first = self._histories.length + fresh
        time = self._histories.time[:, first : first + step - fresh]
        if self._histories.series > 1:
            time = time.repeat_interleave(self._paths, 0)
        s1, s2 = tokens[:, :, fresh:step]
        return self._model.extend(s1, s2, time, self._caches, place)[:, -1], place

    def _prefill(self, start: int) -> None:
        """Have the hidden states [series, d_model] behind the history from `start` on."""
        if start != self._prefix_start:
            s1, s2 = self._histories.tokens[:, :, start:]
            time = self._histories.time[:, start : self._histories.length]
            self._prefix_hidden = self._model.prefill(s1, s2, time, self._caches)
            self._prefix_start = start


class RecordedLoop:
    """One shape of forecast (series, history, horizon, paths), which must fit the window, as often as it comes.

    On CUDA the second step is recorded as a graph and replayed for all that follow, in this run and in later ones.
    """

    def __init__(self, model: PackedKronos, like: Histories, choice: Choice, paths: int) -> None:
        self._model, self._choice = model, choice
        self._length, self._paths = like.length, paths
        rows, horizon = like.series * paths, like.horizon
        self._caches = model.new_caches(like.series)
        self._slot = Slot(horizon, model.device)
        self._time = like.time.new_empty((rows, horizon, like.time.shape[2]))
        self._tokens = like.tokens.new_zeros((2, rows, horizon))
        self._uniforms = torch.zeros((rows, horizon, 2), dtype=torch.float64, device=model.device)
        self._finite = torch.ones((), dtype=torch.bool, device=model.device)
        self._prefix_hidden = like.time.new_empty((like.series, like.time.shape[2]))
        self._histories: Histories | None = None
        self._graph: torch.cuda.CUDAGraph | None = None

    def take_up(self, histories: Histories) -> None:
        """Prefill these histories, of the shape that the loop was made for, unless it is at them already."""
        if histories is self._histories:
            return
        self._histories = histories
        s1, s2 = histories.tokens
        self._prefix_hidden = self._model.prefill(s1, s2, histories.time[:, : self._length], self._caches)
        self._caches.reserve(self._paths, histories.horizon)
        self._time.copy_(histories.time[:, self._length :].repeat_interleave(self._paths, 0))

    def run(self, uniforms: Tensor, on_step: OnStep) -> Tensor:
        """As SteppingLoop.run, for exactly the paths that there is room for. Raises NonFiniteLogitsError."""
        self._uniforms.copy_(uniforms)
        self._slot.position.zero_()
        self._finite.fill_(True)
        hidden = self._prefix_hidden.repeat_interleave(self._paths, 0)
        self._choose(hidden, Span(0, 0), self._slot.position)
        on_step(1)
        for step in range(1, uniforms.shape[1]):
            self._replay_step()
            on_step(step + 1)
        refuse_non_finite(self._finite)
        return self._tokens.clone()

    def step(self) -> None:
        """From the tokens at the slot's position to those behind it: no answer of the device is waited for."""
        position = self._slot.position
        s1, s2 = self._tokens.index_select(2, position)
        hidden = self._model.extend(s1, s2, self._time.index_select(1, position), self._caches, self._slot)[:, -1]
        self._choose(hidden, self._slot, position + 1)
        position += 1

    def _choose(self, hidden: Tensor, place: Place, step: Tensor) -> None:
        chosen = torch.empty_like(self._tokens[:, :, 0])
        uniforms = self._uniforms.index_select(1, step).squeeze(1)
        self._finite &= choose_tokens(self._model, hidden, self._caches, place, uniforms, self._choice, chosen)
        self._tokens.index_copy_(2, step, chosen.unsqueeze(-1))

    def _replay_step(self) -> None:
        if self._model.device.type != "cuda":
            self.step()
        elif self._graph is None:
            self._graph = self._record()
        else:
            self._graph.replay()

    def _record(self) -> torch.cuda.CUDAGraph:
        """Do one step for real, on a side stream as recording wants it, then record the same step for those to come."""
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            self.step()
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self.step()
        return graph


def choose_tokens(
    model: PackedKronos,
    hidden: Tensor,
    caches: KronosCaches,
    place: Place,
    uniforms: Tensor,
    choice: Choice,
    out: Tensor,
) -> Tensor:
    """Draw the coarse and then the fine token for hidden [rows, d_model] with uniforms [rows, 2] into out [2, rows].

    Returns whether all logits were numbers, as a bool that stays on the device.
    """
    s1_finite = choose(model.s1_logits(hidden), choice, uniforms[:, 0], out[0], model.kernels)
    s2_logits = model.s2_logits(hidden, out[0], caches, place)
    return s1_finite & choose(s2_logits, choice, uniforms[:, 1], out[1], model.kernels)


def refuse_non_finite(finite: Tensor) -> None:
    """Raises NonFiniteLogitsError; the one moment at which the host waits for the device."""
    if not bool(finite):
        raise NonFiniteLogitsError("The model's weights give logits that are not finite; use another checkpoint.")
