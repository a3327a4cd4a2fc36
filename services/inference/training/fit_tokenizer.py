"""Fit a tokenizer: candles -> bits -> candles. Knows nothing of the model that will predict its tokens."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from services.inference.model.config import TokenizerConfig
from services.inference.model.tokenizer import KronosTokenizer
from services.inference.training.optimisation import SAVE_EVERY_S, Recipe, Report, fit
from services.inference.training.tokenizer_loss import tokenizer_loss
from services.inference.training.windows import WindowSource

# A candle's four prices say more to a reader than its volume, which is noisier and would take most of the bits.
COLUMN_WEIGHTS = (1.3, 1.3, 1.3, 1.3, 0.4, 0.4)


def fit_tokenizer(
    config: TokenizerConfig,
    source: WindowSource,
    history: tuple[int, int],
    recipe: Recipe,
    state: Path,
    report: Report,
    *,
    save_every_s: float = SAVE_EVERY_S,
) -> KronosTokenizer:
    """Train on windows of `source`; `history` is the range from which each window's normalising length is drawn."""
    torch.manual_seed(recipe.seed)
    tokenizer = KronosTokenizer(config)
    weights = torch.tensor(COLUMN_WEIGHTS)

    def step_loss(step: int) -> tuple[Tensor, dict[str, float]]:
        batch = source.draw(np.random.default_rng([recipe.seed, step]), recipe.batch, history)
        loss = tokenizer_loss(batch.candles, tokenizer(batch.candles), config, weights)
        return loss.total, {"coarse_mse": loss.coarse.item(), "full_mse": loss.full.item()}

    fit(tokenizer, step_loss, recipe, state, report, save_every_s=save_every_s)
    return tokenizer


@torch.inference_mode()
def tokenizer_quality(tokenizer: KronosTokenizer, source: WindowSource, windows: int, history: int) -> dict[str, float]:
    """Reconstruction RMSE in units of the window's std (prices, close, volume and amount) and codes in use."""
    candles = source.evenly(windows, history).candles
    s1, s2 = tokenizer.encode(candles)
    errors = (tokenizer.decode(s1, s2) - candles).square()
    return {
        "price_rmse": errors[..., :4].mean().sqrt().item(),
        "close_rmse": errors[..., 3].mean().sqrt().item(),
        "volume_rmse": errors[..., 4:].mean().sqrt().item(),
        "s1_codes_used": float(_codes_used(s1, tokenizer.config.s1_bits)),
        "s2_codes_used": float(_codes_used(s2, tokenizer.config.s2_bits)),
        "s1_entropy": unigram_entropy(s1, tokenizer.config.s1_bits),
        "s2_entropy": unigram_entropy(s2, tokenizer.config.s2_bits),
    }


def unigram_entropy(tokens: Tensor, bits: int) -> float:
    """Entropy in nats of the frequencies of `tokens` (any shape): what a model that knows only those would pay."""
    shares = _counts(tokens, bits).double() / tokens.numel()
    return float(-(shares * shares.clamp_min(1e-300).log()).sum())


def _codes_used(tokens: Tensor, bits: int) -> int:
    return int(_counts(tokens, bits).count_nonzero())


def _counts(tokens: Tensor, bits: int) -> Tensor:
    return torch.bincount(tokens.flatten(), minlength=1 << bits)
