"""How well a model predicts tokens, beside how well anyone would who knew only how often each occurs."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from services.inference.model.kronos import Kronos
from services.inference.model.tokenizer import KronosTokenizer
from services.inference.training.fit_model import next_token_losses
from services.inference.training.tokenizer_quality import unigram_entropy
from services.inference.training.windows import WindowSource

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
def token_entropy(
    model: Kronos, tokenizer: KronosTokenizer, source: WindowSource, *, windows: int, history: int
) -> dict[str, TokenEntropy]:
    """Over what follows the first `history` candles of at most `windows` windows ("ahead": normalised by the past alone, as
    in a forecast) and over all candles of the windows but each first ("window")."""
    parts = []
    device = next(model.parameters()).device
    for batch in (one.to(device) for one in source.in_batches(windows, history, ROWS_AT_ONCE)):
        s1, s2 = tokenizer.encode(batch.candles)
        losses = next_token_losses(model, s1, s2, batch.time_features)
        parts.append((s1[:, 1:], s2[:, 1:], losses.s1, losses.s2))
    s1, s2, s1_loss, s2_loss = (torch.cat(column) for column in zip(*parts, strict=True))
    bits = tokenizer.config.s1_bits, tokenizer.config.s2_bits

    def measured(since: int) -> TokenEntropy:
        return TokenEntropy(
            tokens=s1[:, since:].numel(),
            s1_cross_entropy=s1_loss[:, since:].double().mean().item(),
            s1_unigram=unigram_entropy(s1[:, since:], bits[0]),
            s2_cross_entropy=s2_loss[:, since:].double().mean().item(),
            s2_unigram=unigram_entropy(s2[:, since:], bits[1]),
        )

    return {"ahead": measured(history - 1), "window": measured(0)}
