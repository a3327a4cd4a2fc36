"""Where a training run stands, in one safetensors file: weights, what optimisers remember, the best weights so far, and the step.

The file appears whole or not at all. Knows nothing of what is trained.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from services.inference.training.recipe import Recipe
from services.inference.training.safe_saving import save_whole
from shared.errors import CheckpointError

Optimisers = Sequence[torch.optim.Optimizer]


@dataclass(frozen=True, eq=False)
class Position:
    """Steps done, and what validation has said so far (None where none was taken)."""

    step: int = 0
    first_loss: float | None = None
    best_loss: float | None = None
    best_step: int = 0
    best_weights: dict[str, Tensor] | None = None
    ended: bool = False  # patience ended it before its last step

    def after_step(self) -> Position:
        return replace(self, step=self.step + 1)

    def with_best(self, loss: float, weights: dict[str, Tensor]) -> Position:
        first = loss if self.first_loss is None else self.first_loss
        return replace(self, first_loss=first, best_loss=loss, best_step=self.step, best_weights=weights)

    def at_end(self) -> Position:
        return replace(self, ended=True)


def save(module: nn.Module, optimisers: Optimisers, recipe: Recipe, position: Position, path: Path) -> None:
    """Raises OSError where it cannot be written; the state before it is then still there."""
    tensors = {f"weights/{name}": tensor for name, tensor in module.state_dict().items()}
    tensors |= {f"best/{name}": tensor for name, tensor in (position.best_weights or {}).items()}
    for optimiser in optimisers:
        for name, parameter in module.named_parameters():
            remembered = optimiser.state.get(parameter, {})
            tensors |= {f"remembered/{what}/{name}": tensor for what, tensor in remembered.items()}
    facts = {name: value for name, value in vars(position).items() if name != "best_weights"}
    path.parent.mkdir(parents=True, exist_ok=True)
    recorded = {"position": json.dumps(facts), "recipe": json.dumps(asdict(recipe), sort_keys=True)}
    save_whole(tensors, path, recorded)


def restore(module: nn.Module, optimisers: Optimisers, recipe: Recipe, path: Path) -> Position:
    """Load a saved state into module and optimisers; where there is none, the start. Raises CheckpointError."""
    if not path.exists():
        return Position()
    try:
        with safe_open(path, framework="pt") as file:
            facts = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
        begun, position = json.loads(facts["recipe"]), Position(**json.loads(facts["position"]))
    except (OSError, SafetensorError, KeyError, ValueError, TypeError) as error:
        raise CheckpointError(f"'{path}' is no training state ({error}); remove it to start anew.") from error
    _check_recipe(begun, asdict(recipe), path)
    device = next(module.parameters()).device
    try:
        module.load_state_dict(_named("weights/", tensors))
    except RuntimeError:
        raise CheckpointError(
            f"'{path}' is the state of a module of another shape; remove the file to start anew."
        ) from None
    parameters = dict(module.named_parameters())
    for key, tensor in _named("remembered/", tensors).items():
        what, name = key.split("/", 1)
        owner = next(one for one in optimisers if _moves(one, parameters[name]))
        # AdamW counts its steps on the CPU, wherever the weights are.
        owner.state[parameters[name]][what] = tensor if what == "step" else tensor.to(device)
    return replace(position, best_weights=_named("best/", tensors) or None)


def _moves(optimiser: torch.optim.Optimizer, parameter: nn.Parameter) -> bool:
    return any(one is parameter for group in optimiser.param_groups for one in group["params"])


def _named(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _check_recipe(begun: dict[str, object], recipe: dict[str, object], path: Path) -> None:
    changed = [f"{name} {begun.get(name)}, not {value}" for name, value in recipe.items() if begun.get(name) != value]
    if changed:
        raise CheckpointError(
            f"'{path}' was begun with {' and '.join(changed)}; go on with the same options, or remove the file to start anew."
        )
