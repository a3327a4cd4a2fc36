"""From logits to a drawn token: temperature, top-k or top-p, then a draw with a uniform number that is handed in.

Pure functions; no randomness of their own, and nothing that makes an accelerator wait for the host. Tokens as likely as
the last one that is kept are kept as well, so which of several equals stays never hangs on the order of a sort.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from services.inference.native.kernels import Kernels
from shared.errors import CheckpointError

# The largest uniform number: u * total then never rounds up to total, behind which no token follows.
MOST_UNIFORM = 1.0 - 2.0**-52


class NonFiniteLogitsError(CheckpointError):
    """The model gave logits that are not numbers, so nothing can be drawn."""


@dataclass(frozen=True)
class Choice:
    """How tokens are drawn: `temperature` first; then, if top_k > 0, the k best are kept and top_p is ignored; else, if
    top_p < 1, the smallest set whose cumulative probability exceeds top_p, the token that crosses included."""

    temperature: float
    top_k: int
    top_p: float


def choose(logits: Tensor, choice: Choice, uniforms: Tensor, out: Tensor, kernels: Kernels | None) -> Tensor:
    """Draw from logits [rows, vocabulary] with uniforms float64 [rows] into out int64 [rows]; by `kernels`, which do the
    same without a sort, or torch.

    Returns whether all logits were numbers, as a bool that stays on their device; where not, the token is any.
    """
    if kernels is not None:
        finite = kernels.choose(logits, choice.temperature, choice.top_k, choice.top_p, uniforms, out)
        return torch.tensor(finite)
    probabilities = next_token_distribution(logits, choice)
    out.copy_(draw(probabilities, uniforms))
    return all_finite(probabilities)


def next_token_distribution(logits: Tensor, choice: Choice) -> Tensor:
    """logits [..., vocabulary] -> probabilities of the same shape, in the logits' dtype."""
    probabilities = (logits / choice.temperature).softmax(dim=-1)
    if choice.top_k > 0:
        kept = min(choice.top_k, logits.shape[-1])
        return _keep(probabilities, probabilities.topk(kept, dim=-1).values[..., -1:])
    if choice.top_p < 1.0:
        return _keep(probabilities, _weakest_in_nucleus(probabilities, choice.top_p))
    return probabilities


def draw(probabilities: Tensor, uniforms: Tensor) -> Tensor:
    """Inverse CDF in float64: probabilities [rows, vocabulary], uniforms float64 [rows] from 0 to MOST_UNIFORM -> ids
    [rows].

    A token of probability zero is never drawn. Works where `uniforms` lie and answers there: not every device has
    float64. Where probabilities are not finite the answer is some token; see `all_finite`.
    """
    cumulative = probabilities.to(uniforms.device).cumsum(dim=-1, dtype=torch.float64)
    ids = torch.searchsorted(cumulative, uniforms.unsqueeze(-1) * cumulative[:, -1:], right=True).squeeze(-1)
    return ids.clamp_(max=probabilities.shape[-1] - 1)


def all_finite(probabilities: Tensor) -> Tensor:
    """Whether something could be drawn from probabilities [rows, vocabulary]: a bool that stays on their device."""
    return torch.isfinite(probabilities[:, 0]).all()  # a softmax with one number that is none has no other


def _keep(probabilities: Tensor, weakest: Tensor) -> Tensor:
    """The probabilities of tokens no less likely than `weakest` [..., 1], made to sum to one."""
    kept = probabilities * (probabilities >= weakest)
    return kept / kept.sum(dim=-1, keepdim=True)


def _weakest_in_nucleus(probabilities: Tensor, top_p: float) -> Tensor:
    """[..., vocabulary] -> [..., 1]: the probability of the token with which the most likely ones exceed top_p."""
    ascending = _sorted(probabilities)
    up_to_here = ascending.cumsum(dim=-1, dtype=torch.float64 if probabilities.device.type != "mps" else None)
    # In descending order a token is kept while those before it sum to at most top_p: all above it, in this order.
    last_dropped = up_to_here[..., -1:] - top_p
    return ascending.gather(-1, torch.searchsorted(up_to_here, last_dropped).clamp(max=probabilities.shape[-1] - 1))


def _sorted(probabilities: Tensor) -> Tensor:
    """In ascending order. On the CPU by numpy, whose sort of float32 is eight times as fast as torch's (AVX-512)."""
    if probabilities.device.type == "cpu":
        return torch.from_numpy(np.sort(probabilities.numpy(), axis=-1))
    return probabilities.sort(dim=-1).values
