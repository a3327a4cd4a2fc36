"""How well a model predicts tokens, beside how well anyone would who knew only how often each occurs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from services.inference.context import time_features
from services.inference.evaluation.backtest import Origin
from services.inference.model.kronos import Kronos
from services.inference.model.tokenizer import KronosTokenizer
from services.inference.training.fit_model import next_token_losses
from services.inference.training.fit_tokenizer import unigram_entropy
from services.inference.training.windows import normalise_window

ROWS_AT_ONCE = 16


@dataclass(frozen=True)
class TokenEntropy:
    """In nats per token. `unigram` is the entropy of the frequencies of the same tokens that the model was scored on;
    the fine token is scored given its coarse one."""

    tokens: int
    s1_cross_entropy: float
    s1_unigram: float
    s2_cross_entropy: float
    s2_unigram: float


@torch.inference_mode()
def token_entropy(model: Kronos, tokenizer: KronosTokenizer, origins: Sequence[Origin]) -> dict[str, TokenEntropy]:
    """Over the candles to come of all origins ("ahead": normalised by the past alone, as in a forecast) and over all
    candles of the windows but each first ("window")."""
    batches = (origins[first : first + ROWS_AT_ONCE] for first in range(0, len(origins), ROWS_AT_ONCE))
    parts = [_batch(model, tokenizer, rows) for rows in batches]
    s1, s2, s1_loss, s2_loss = (torch.cat(column) for column in zip(*(part for part, _ in parts), strict=True))
    horizon = parts[0][1]
    bits = tokenizer.config.s1_bits, tokenizer.config.s2_bits

    def measured(since: int) -> TokenEntropy:
        return TokenEntropy(
            tokens=s1[:, since:].numel(),
            s1_cross_entropy=s1_loss[:, since:].double().mean().item(),
            s1_unigram=unigram_entropy(s1[:, since:], bits[0]),
            s2_cross_entropy=s2_loss[:, since:].double().mean().item(),
            s2_unigram=unigram_entropy(s2[:, since:], bits[1]),
        )

    return {"ahead": measured(-horizon), "window": measured(0)}


def _batch(
    model: Kronos, tokenizer: KronosTokenizer, origins: Sequence[Origin]
) -> tuple[tuple[Tensor, Tensor, Tensor, Tensor], int]:
    """Tokens and losses [rows, history + horizon - 1] of the targets, and the horizon."""
    windows = [
        normalise_window(np.concatenate((origin.known[1:], origin.ahead)), len(origin.known) - 1) for origin in origins
    ]
    times = [np.concatenate((origin.known_times_ms[1:], origin.ahead_times_ms)) for origin in origins]
    s1, s2 = tokenizer.encode(torch.from_numpy(np.stack(windows)))
    losses = next_token_losses(model, s1, s2, torch.from_numpy(time_features(np.stack(times))))
    return (s1[:, 1:], s2[:, 1:], losses.s1, losses.s2), len(origins[0].ahead)
