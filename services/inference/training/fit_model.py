"""Fit a Kronos: tokens of the past -> the next coarse and fine token. The tokenizer is given and stays as it is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from services.inference.model.config import KronosConfig
from services.inference.model.kronos import Kronos
from services.inference.model.tokenizer import KronosTokenizer
from services.inference.training.optimisation import SAVE_EVERY_S, Recipe, Report, fit
from services.inference.training.windows import WindowBatch, WindowSource

# Inside the history, mean and std know the candles to come, which a forecast never does: there each token counts less.
HISTORY_WEIGHT = 0.5


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
    config: KronosConfig,
    tokenizer: KronosTokenizer,
    source: WindowSource,
    history: tuple[int, int],
    recipe: Recipe,
    state: Path,
    report: Report,
    *,
    save_every_s: float = SAVE_EVERY_S,
) -> Kronos:
    """Train on the tokens of windows of `source`; `history` is the range of each window's normalising length."""
    torch.manual_seed(recipe.seed)
    model = Kronos(config)
    tokenizer.eval()

    def step_loss(step: int) -> tuple[Tensor, dict[str, float]]:
        batch = source.draw(np.random.default_rng([recipe.seed, step]), recipe.batch, history)
        losses = next_token_losses(model, *_tokens(tokenizer, batch), batch.time_features)
        weights = _position_weights(batch)
        s1, s2 = ((loss * weights).sum() / weights.sum() for loss in (losses.s1, losses.s2))
        return (s1 + s2) / 2, {"s1": s1.item(), "s2": s2.item()}

    fit(model, step_loss, recipe, state, report, save_every_s=save_every_s)
    return model


def _tokens(tokenizer: KronosTokenizer, batch: WindowBatch) -> tuple[Tensor, Tensor]:
    """In float32 as when forecasting: rounding would flip bits near zero."""
    with torch.no_grad(), torch.autocast(batch.candles.device.type, enabled=False):
        return tokenizer.encode(batch.candles)


def _position_weights(batch: WindowBatch) -> Tensor:
    """[batch, t - 1]: the target at position p lies in the history while p < history."""
    targets = torch.arange(1, batch.candles.shape[1])
    return torch.where(targets < batch.history[:, None], HISTORY_WEIGHT, 1.0)


def _cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    return functional.cross_entropy(logits.float().flatten(0, 1), targets.flatten(), reduction="none").view_as(targets)
