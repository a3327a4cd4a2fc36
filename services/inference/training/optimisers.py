"""Who moves which weights: AdamW all of them, or Muon the matrices of the transformer blocks and AdamW the rest.

Muon (Jordan et al. 2024) makes the step of a matrix orthogonal; torch keeps it, with rates that match AdamW's, so that one
learning rate serves both. docs/training.md has what it gained.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from services.inference.training.recipe import Recipe

BETAS = (0.9, 0.95)


def optimisers_for(module: nn.Module, recipe: Recipe) -> list[torch.optim.Optimizer]:
    """For all of `module` that learns; only matrices decay."""
    learning = [parameter for parameter in module.parameters() if parameter.requires_grad]
    matrices = [one for one in learning if one.ndim > 1]
    found: list[torch.optim.Optimizer] = []
    if recipe.muon and (in_blocks := _in_blocks(module, learning)):
        found.append(
            torch.optim.Muon(
                in_blocks, recipe.learning_rate, weight_decay=recipe.weight_decay, adjust_lr_fn="match_rms_adamw"
            )
        )
        matrices = _without(matrices, in_blocks)
    groups = [
        {"params": matrices, "weight_decay": recipe.weight_decay},
        {"params": [one for one in learning if one.ndim <= 1], "weight_decay": 0.0},
    ]
    return [*found, torch.optim.AdamW(groups, lr=recipe.learning_rate, betas=BETAS)]


def block_projections(module: nn.Module) -> list[nn.Linear]:
    """The linear layers of attention and feed-forward: those of blocks, which stand in lists."""
    blocks = [block for part in module.children() if isinstance(part, nn.ModuleList) for block in part]
    return [layer for block in blocks for layer in block.modules() if isinstance(layer, nn.Linear)]


def _in_blocks(module: nn.Module, learning: Sequence[nn.Parameter]) -> list[nn.Parameter]:
    """Their weights, where these are parameters of their own that learn: what low-rank additions read is not."""
    weights = [layer._parameters.get("weight") for layer in block_projections(module)]
    kept = {id(one) for one in learning}
    return [one for one in weights if one is not None and id(one) in kept]


def _without(parameters: Sequence[nn.Parameter], left_out: Sequence[nn.Parameter]) -> list[nn.Parameter]:
    names = {id(one) for one in left_out}
    return [one for one in parameters if id(one) not in names]
