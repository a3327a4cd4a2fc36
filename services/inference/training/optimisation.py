"""The training loop: steps, a one-cycle learning rate, and a state on disk from which a run goes on as if never stopped.

What a step's batch is depends on the seed and the step number alone, so nothing of a random generator needs saving.
Knows nothing of klines, tokenizers or models: losses come in as functions.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from services.inference.training.optimisers import optimisers_for
from services.inference.training.recipe import Recipe
from services.inference.training.training_state import Position, restore, save
from shared.errors import CheckpointError

WARM_UP = 0.1  # share of the steps in which the learning rate rises
REPORT_EVERY = 10  # steps
SAVE_EVERY_S = 120.0
LOWEST = 0.01  # of the peak, where the one cycle starts and ends


@dataclass(frozen=True)
class Progress:
    """What is known after a step. `validation` only where it was taken; `best` the lowest so far."""

    step: int
    steps: int
    loss: float | None
    parts: dict[str, float]
    seconds_left: float
    validation: float | None = None
    best: float | None = None


@dataclass(frozen=True)
class Fitted:
    """How a run ended. Validation losses are None where none was taken; the weights are those of `best_step`."""

    steps: int
    first_validation: float | None
    best_validation: float | None
    best_step: int


StepLoss = Callable[[int], tuple[Tensor, dict[str, float]]]
Validate = Callable[[], float]
Report = Callable[[Progress], None]


def learning_rate(step: int, recipe: Recipe) -> float:
    """One cycle: up to the peak along a line, then down along half a cosine."""
    warm = max(1, round(recipe.steps * WARM_UP))
    if step < warm:
        return recipe.learning_rate * (LOWEST + (1 - LOWEST) * (step + 1) / warm)
    done = (step - warm) / max(1, recipe.steps - warm)
    return recipe.learning_rate * (LOWEST + (1 - LOWEST) * 0.5 * (1 + math.cos(math.pi * done)))


def fit(
    module: nn.Module,
    step_loss: StepLoss,
    recipe: Recipe,
    state: Path,
    report: Report,
    *,
    validate: Validate | None = None,
    save_every_s: float = SAVE_EVERY_S,
) -> Fitted:
    """Train `module` in place, from `state` if that file exists, and leave the state there. With `validate` the weights are
    in the end those with the lowest validation loss, which may be those of the start.

    An interruption loses at most the last `save_every_s` seconds. Raises CheckpointError if the state belongs to another
    recipe or the loss is no longer finite.
    """
    if not recipe.validate_every:
        validate = None
    optimisers = optimisers_for(module, recipe)
    position = restore(module, optimisers, recipe, state)
    if validate and position.step == 0:
        position = _validated(position, module, validate, recipe, report, seconds_left=math.nan)
    clock = _Clock(position.step)
    module.train()
    while position.step < recipe.steps and not position.ended:
        loss, parts = _one_step(module, optimisers, step_loss, recipe, position.step)
        position = position.after_step()
        left = clock.seconds_left(position.step, recipe.steps)
        if position.step % REPORT_EVERY == 0 or position.step == recipe.steps:
            report(Progress(position.step, recipe.steps, loss, parts, left, best=position.best_loss))
        if validate and (position.step % recipe.validate_every == 0 or position.step == recipe.steps):
            position = _validated(position, module, validate, recipe, report, left)
        if position.step == recipe.steps or position.ended or clock.since_saved() > save_every_s:
            save(module, optimisers, recipe, position, state)
            clock.saved()
    if position.best_weights:
        module.load_state_dict(position.best_weights)
    module.eval()
    best = position.best_step if validate else position.step
    return Fitted(position.step, position.first_loss, position.best_loss, best)


def _validated(
    position: Position, module: nn.Module, validate: Validate, recipe: Recipe, report: Report, seconds_left: float
) -> Position:
    """With the validation loss of where it stands, its weights if they are the best so far, and whether patience ends."""
    module.eval()
    loss = validate()
    module.train()
    if position.best_loss is None or loss < position.best_loss:
        weights = {name: tensor.detach().clone() for name, tensor in module.state_dict().items()}
        position = position.with_best(loss, weights)
    elif recipe.patience and position.step - position.best_step >= recipe.patience * recipe.validate_every:
        position = position.at_end()
    report(Progress(position.step, recipe.steps, None, {}, seconds_left, validation=loss, best=position.best_loss))
    return position


@dataclass
class _Clock:
    """How fast this run is; what a run before it took does not count."""

    first: int
    _started: float = field(default_factory=time.monotonic)
    _saved: float = field(default_factory=time.monotonic)

    def seconds_left(self, step: int, steps: int) -> float:
        return (time.monotonic() - self._started) / (step - self.first) * (steps - step)

    def since_saved(self) -> float:
        return time.monotonic() - self._saved

    def saved(self) -> None:
        self._saved = time.monotonic()


def _one_step(
    module: nn.Module,
    optimisers: Sequence[torch.optim.Optimizer],
    step_loss: StepLoss,
    recipe: Recipe,
    step: int,
) -> tuple[float, dict[str, float]]:
    torch.manual_seed(recipe.seed * 1_000_003 + step)  # dropout must not depend on where a run was interrupted
    for group in (group for optimiser in optimisers for group in optimiser.param_groups):
        group["lr"] = learning_rate(step, recipe)
    device = next(module.parameters()).device.type
    with torch.autocast(device, dtype=torch.bfloat16, enabled=recipe.bfloat16):
        loss, parts = step_loss(step)
    if not torch.isfinite(loss):
        raise CheckpointError(
            f"The loss is {loss.item()} at step {step}; lower --learning-rate (now {recipe.learning_rate:g}) and train anew."
        )
    module.zero_grad(set_to_none=True)
    loss.backward()
    nn.utils.clip_grad_norm_(module.parameters(), recipe.clip_norm)
    for optimiser in optimisers:
        optimiser.step()
    return loss.item(), parts
