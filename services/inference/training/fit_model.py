"""Fit a Kronos, new or given: tokens of the past -> the next coarse and fine token. Its tokenizer stays as it is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from services.inference.model.kronos import Kronos
from services.inference.model.tokenizer import KronosTokenizer
from services.inference.training.optimisation import SAVE_EVERY_S, Fitted, Report, StepLoss, Validate, fit
from services.inference.training.recipe import Recipe
from services.inference.training.windows import WindowBatch, WindowSource

# Inside the history, mean and std know the candles to come, which a forecast never does: there each token counts less.
HISTORY_WEIGHT = 0.5
VALIDATION_WINDOWS = 256


@dataclass(frozen=True, eq=False)
class NextTokenLosses:
    """Cross-entropies in nats of the tokens at positions 1 .. t-1 of a window, [batch, t - 1] each."""

    s1: Tensor
    s2: Tensor


def next_token_losses(model: Kronos, s1: Tensor, s2: Tensor, time_features: Tensor) -> NextTokenLosses:
    """Teacher-forced: s1, s2 [batch, t], time_features [batch, t, 5]; every token given all before it, the fine one
    also its own coarse one."""
    s1_logits, s2_logits = model(s1[:, :-1], s2[:, :-1], time_features[:, :-1], s1[:, 1:])
    return NextTokenLosses(_cross_entropy(s1_logits, s1[:, 1:]), _cross_entropy(s2_logits, s2[:, 1:]))


def fit_model(
    model: Kronos,
    tokenizer: KronosTokenizer,
    source: WindowSource,
    history: tuple[int, int],
    recipe: Recipe,
    state: Path,
    report: Report,
    *,
    validated: WindowSource | None = None,
    validated_history: int = 0,
    compiled: bool = False,
    save_every_s: float = SAVE_EVERY_S,
) -> Fitted:
    """Train `model` in place on the tokens of windows of `source`; `history` is the range of each window's normalising
    length. `validated` windows are scored on what follows their first `validated_history` candles.
    """
    tokenizer.eval()
    losses = torch.compile(next_token_losses) if compiled else next_token_losses
    device = next(model.parameters()).device

    def mean_losses(batch: WindowBatch, weights: Tensor) -> tuple[Tensor, Tensor]:
        found = losses(model, *_tokens(tokenizer, batch), batch.time_features)
        s1, s2 = ((loss * weights).sum() / weights.sum() for loss in (found.s1, found.s2))
        return s1, s2

    def step_loss(step: int) -> tuple[Tensor, dict[str, float]]:
        batch = source.draw(np.random.default_rng([recipe.seed, step]), recipe.batch, history, recipe.mirrored).to(
            device
        )
        s1, s2 = mean_losses(batch, _position_weights(batch, HISTORY_WEIGHT))
        return (s1 + s2) / 2, {"s1": s1.item(), "s2": s2.item()}

    @torch.no_grad()
    def validate() -> float:
        assert validated is not None  # noqa: S101 - fit asks only where there is one
        batches = validated.in_batches(VALIDATION_WINDOWS, validated_history, recipe.batch)
        means = []
        for batch in (one.to(device) for one in batches):
            s1, s2 = mean_losses(batch, _position_weights(batch, 0.0))
            means.append(((s1 + s2) / 2).item())
        return float(np.mean(means))

    check: Validate | None = validate if validated else None
    take_step: StepLoss = step_loss
    return fit(model, take_step, recipe, state, report, validate=check, save_every_s=save_every_s)


def _tokens(tokenizer: KronosTokenizer, batch: WindowBatch) -> tuple[Tensor, Tensor]:
    """In float32 as when forecasting: rounding would flip bits near zero."""
    with torch.no_grad(), torch.autocast(batch.candles.device.type, enabled=False):
        return tokenizer.encode(batch.candles)


def _position_weights(batch: WindowBatch, in_history: float) -> Tensor:
    """[batch, t - 1]: 1, but `in_history` where the target at position p lies in the history, while p < history."""
    targets = torch.arange(1, batch.candles.shape[1], device=batch.history.device)
    return torch.where(targets < batch.history[:, None], in_history, 1.0)


def _cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    return functional.cross_entropy(logits.float().flatten(0, 1), targets.flatten(), reduction="none").view_as(targets)
