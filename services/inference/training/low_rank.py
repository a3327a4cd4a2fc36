"""Low-rank adaptation (LoRA, Hu et al., arXiv 2106.09685): train a small addition to each projection, and nothing else.

While it trains, a linear layer's weight W reads as W + ALPHA / rank * up @ down, with W held still; `merge` leaves the sum in its
place, so that a checkpoint has the published layout and costs nothing more to run.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from services.inference.training.optimisers import block_projections

ALPHA = 16.0  # the addition's weight is ALPHA / rank


class _LowRank(nn.Module):
    def __init__(self, weight: Tensor, rank: int) -> None:
        super().__init__()
        rows, columns = weight.shape
        self.scale = ALPHA / rank
        down = torch.randn(rank, columns) * columns**-0.5  # drawn on the CPU, so that a seed means the same anywhere
        self.down = nn.Parameter(down.to(weight.device))
        self.up = nn.Parameter(torch.zeros(rows, rank, device=weight.device))  # so that it starts as what it was

    def forward(self, weight: Tensor) -> Tensor:
        return weight + self.scale * (self.up @ self.down)


def add_low_rank(module: nn.Module, rank: int) -> int:
    """Hold all of `module` still but additions of `rank` to the projections of its transformer blocks. Returns how many
    numbers are left to train."""
    module.requires_grad_(False)
    for layer in block_projections(module):
        parametrize.register_parametrization(layer, "weight", _LowRank(layer.weight, rank))
    return sum(parameter.numel() for parameter in module.parameters() if parameter.requires_grad)


def merge_low_rank(module: nn.Module) -> None:
    """Put the sums in the weights' places."""
    for layer in block_projections(module):
        parametrize.remove_parametrizations(layer, "weight", leave_parametrized=True)
