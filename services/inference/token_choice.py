"""From logits to a drawn token: temperature, top-k or top-p, then a draw with a uniform number that is handed in.

Pure functions; no randomness of their own.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from shared.errors import CheckpointError


class NonFiniteLogitsError(CheckpointError):
    """The model gave logits that are not numbers, so nothing can be drawn."""


def next_token_distribution(logits: Tensor, *, temperature: float, top_k: int, top_p: float) -> Tensor:
    """logits [..., vocabulary] -> probabilities of the same shape, in the logits' dtype.

    Temperature first. Then, if top_k > 0, the k best are kept and top_p is ignored; else, if top_p < 1, the smallest
    set whose cumulative probability exceeds top_p: the token that crosses is kept.
    """
    logits = logits / temperature
    if top_k > 0:
        weakest_kept = logits.topk(min(top_k, logits.shape[-1]), dim=-1).values[..., -1:]
        logits = logits.masked_fill(logits < weakest_kept, float("-inf"))
    elif top_p < 1.0:
        ordered, order = logits.sort(dim=-1, descending=True)
        up_to_here = ordered.softmax(dim=-1).cumsum(dim=-1)
        before = functional.pad(up_to_here[..., :-1], (1, 0))
        dropped = torch.empty_like(before, dtype=torch.bool).scatter_(-1, order, before > top_p)
        logits = logits.masked_fill(dropped, float("-inf"))
    return logits.softmax(dim=-1)


def draw(probabilities: Tensor, uniforms: Tensor) -> Tensor:
    """Inverse CDF in float64: probabilities [rows or 1, vocabulary], uniforms float64 [rows] in [0, 1) -> ids [rows].

    A token of probability zero is never drawn. Works where `uniforms` lie and answers there: not every device has
    float64. Raises NonFiniteLogitsError.
    """
    cumulative = probabilities.to(uniforms.device, torch.float64).cumsum(dim=-1)
    total = cumulative[:, -1:]
    if not bool(torch.isfinite(total).all()):
        raise NonFiniteLogitsError("The model's weights give logits that are not finite; use another checkpoint.")
    # u * total can round up to total, where no token follows; the largest number below it is still the last token's.
    threshold = torch.minimum(uniforms.unsqueeze(-1) * total, torch.nextafter(total, torch.zeros_like(total)))
    cumulative = cumulative.expand(len(uniforms), -1).contiguous()
    return torch.searchsorted(cumulative, threshold, right=True).squeeze(-1)
