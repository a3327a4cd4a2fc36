"""What the tokenizer is trained to do: rebuild candles from few bits, and use all of its codes.

Formula: SPEC of the model, after binary spherical quantisation (arXiv 2406.07548). Knows nothing of data or optimisers.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from services.inference.model.config import TokenizerConfig

_TINY = 1e-9


@dataclass(frozen=True, eq=False)
class TokenizerLoss:
    """Scalars: `total` to minimise, and its parts. `coarse` and `full` are (weighted) mean squared errors."""

    total: Tensor
    coarse: Tensor
    full: Tensor
    quantisation: Tensor


def tokenizer_loss(
    candles: Tensor,
    outputs: tuple[Tensor, Tensor, Tensor, Tensor],
    config: TokenizerConfig,
    column_weights: Tensor,
) -> TokenizerLoss:
    """candles [batch, t, d_in], outputs of KronosTokenizer.forward on them, column_weights [d_in] with mean 1.

    (MSE of the reconstruction from the coarse bits + MSE of the full one + Q) / 2, with Q = beta * mean |quantised - z|^2
    + zeta * (gamma0 * H_sample - gamma * H_codebook).
    """
    coarse_candles, full_candles, z, quantised = outputs
    coarse = _squared_error(coarse_candles, candles, column_weights)
    full = _squared_error(full_candles, candles, column_weights)
    commitment = (quantised.detach() - z).square().sum(dim=-1).mean()
    per_sample, codebook = assignment_entropies(z.float(), config.group_size)
    quantisation = config.beta * commitment + config.zeta * (config.gamma0 * per_sample - config.gamma * codebook)
    return TokenizerLoss((coarse + full + quantisation) / 2, coarse, full, quantisation)


def assignment_entropies(z: Tensor, group_size: int) -> tuple[Tensor, Tensor]:
    """Unit vectors z [batch, t, bits] -> H_sample and H_codebook in nats.

    A bit's soft assignment is sigmoid(4 z / sqrt(bits)). H_sample: its entropy, mean over samples and bits. H_codebook:
    the entropy of the average soft assignment to the 2^group_size codes of each group of bits, summed over groups.
    """
    bits = z.shape[-1]
    on = torch.sigmoid(4.0 * z.reshape(-1, bits) / bits**0.5)
    per_sample = -(on * (on + _TINY).log() + (1 - on) * (1 - on + _TINY).log()).mean()
    codebook = z.new_zeros(())
    for group in on.view(len(on), -1, group_size).unbind(dim=1):
        codes = _soft_codes(group).mean(dim=0)
        codebook = codebook - (codes * (codes + _TINY).log()).sum()
    return per_sample, codebook


def _soft_codes(on: Tensor) -> Tensor:
    """Probability of each bit being on [n, bits] -> probability of each code [n, 2^bits]."""
    codes = on.new_ones(len(on), 1)
    for bit in on.unbind(dim=-1):
        both = torch.stack((1 - bit, bit), dim=-1)
        codes = (codes.unsqueeze(-1) * both.unsqueeze(1)).flatten(1)
    return codes


def _squared_error(rebuilt: Tensor, candles: Tensor, column_weights: Tensor) -> Tensor:
    return ((rebuilt.float() - candles).square() * column_weights).mean()
