"""Fit a tokenizer, new or given: candles -> bits -> candles. Knows nothing of the model that will predict its tokens."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from services.inference.model.tokenizer import KronosTokenizer
from services.inference.training.optimisation import SAVE_EVERY_S, Fitted, Report, Validate, fit
from services.inference.training.recipe import Recipe
from services.inference.training.tokenizer_loss import TokenizerLoss, tokenizer_loss
from services.inference.training.windows import WindowBatch, WindowSource

# A candle's four prices say more to a reader than its volume, which is noisier and would take most of the bits.
COLUMN_WEIGHTS = (1.45, 1.45, 1.45, 1.45, 0.1, 0.1)
VALIDATION_WINDOWS = 256


def fit_tokenizer(
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
    """Train `tokenizer` in place on windows of `source`; `history` is the range from which each window's normalising length
    is drawn. Validation is the mean of both reconstruction errors, on windows of `validated`.
    """
    device = next(tokenizer.parameters()).device
    weights = torch.tensor(COLUMN_WEIGHTS, device=device)
    rebuild = torch.compile(tokenizer) if compiled else tokenizer

    def loss_of(batch: WindowBatch) -> TokenizerLoss:
        return tokenizer_loss(batch.candles, rebuild(batch.candles), tokenizer.config, weights)

    def step_loss(step: int) -> tuple[Tensor, dict[str, float]]:
        loss = loss_of(
            source.draw(np.random.default_rng([recipe.seed, step]), recipe.batch, history, recipe.mirrored).to(device)
        )
        return loss.total, {"coarse_mse": loss.coarse.item(), "full_mse": loss.full.item()}

    @torch.no_grad()
    def validate() -> float:
        assert validated is not None  # noqa: S101 - fit asks only where there is one
        batches = validated.in_batches(VALIDATION_WINDOWS, validated_history, recipe.batch)
        losses = [loss_of(batch.to(device)) for batch in batches]
        return float(np.mean([(loss.coarse + loss.full).item() / 2 for loss in losses]))

    check: Validate | None = validate if validated else None
    return fit(tokenizer, step_loss, recipe, state, report, validate=check, save_every_s=save_every_s)
