"""The training loop: steps, a one-cycle learning rate, and a state on disk from which a run goes on as if never stopped.

What a step's batch is depends on the seed and the step number alone, so nothing of a random generator needs saving.
Knows nothing of klines, tokenizers or models: a loss comes in as a function of the step.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from shared.errors import CheckpointError

WARM_UP = 0.1  # share of the steps in which the learning rate rises
REPORT_EVERY = 25  # steps
SAVE_EVERY_S = 120.0
LOWEST = 0.01  # of the peak, where the one cycle starts and ends


@dataclass(frozen=True)
class Recipe:
    """How a fit is run. Two runs with the same recipe on the same klines give the same weights on the same machine."""

    steps: int
    batch: int
    learning_rate: float
    seed: int
    bfloat16: bool
    weight_decay: float = 0.01
    clip_norm: float = 1.0


@dataclass(frozen=True)
class Progress:
    step: int
    steps: int
    loss: float
    parts: dict[str, float]
    seconds_left: float


StepLoss = Callable[[int], tuple[Tensor, dict[str, float]]]
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
    save_every_s: float = SAVE_EVERY_S,
) -> None:
    """Train `module` in place, from `state` if that file exists, and leave the state there.

    An interruption loses at most the last `save_every_s` seconds. Raises CheckpointError if the state belongs to another
    recipe or the loss is no longer finite.
    """
    optimiser = _optimiser(module, recipe)
    first = _restore(module, optimiser, recipe, state)
    started = saved = time.monotonic()
    module.train()
    for step in range(first, recipe.steps):
        loss, parts = _one_step(module, optimiser, step_loss, recipe, step)
        done, last = step + 1, step + 1 == recipe.steps
        if done % REPORT_EVERY == 0 or last:
            pace = (time.monotonic() - started) / (done - first)
            report(Progress(done, recipe.steps, loss, parts, pace * (recipe.steps - done)))
        if last or time.monotonic() - saved > save_every_s:
            _save(module, optimiser, recipe, done, state)
            saved = time.monotonic()
    module.eval()


def _one_step(
    module: nn.Module, optimiser: torch.optim.AdamW, step_loss: StepLoss, recipe: Recipe, step: int
) -> tuple[float, dict[str, float]]:
    torch.manual_seed(recipe.seed * 1_000_003 + step)  # dropout must not depend on where a run was interrupted
    for group in optimiser.param_groups:
        group["lr"] = learning_rate(step, recipe)
    device = next(module.parameters()).device.type
    with torch.autocast(device, dtype=torch.bfloat16, enabled=recipe.bfloat16):
        loss, parts = step_loss(step)
    if not torch.isfinite(loss):
        raise CheckpointError(
            f"The loss is {loss.item()} at step {step}; lower --learning-rate (now {recipe.learning_rate:g}) and train anew."
        )
    optimiser.zero_grad(set_to_none=True)
    loss.backward()
    nn.utils.clip_grad_norm_(module.parameters(), recipe.clip_norm)
    optimiser.step()
    return loss.item(), parts


def _optimiser(module: nn.Module, recipe: Recipe) -> torch.optim.AdamW:
    """AdamW; only matrices decay."""
    matrices = [p for p in module.parameters() if p.requires_grad and p.ndim > 1]
    others = [p for p in module.parameters() if p.requires_grad and p.ndim <= 1]
    groups = [{"params": matrices, "weight_decay": recipe.weight_decay}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=recipe.learning_rate, betas=(0.9, 0.95))


def _save(module: nn.Module, optimiser: torch.optim.AdamW, recipe: Recipe, step: int, path: Path) -> None:
    """Weights, both moments of AdamW and the step in one safetensors file that appears whole or not at all."""
    tensors = {f"weights/{name}": tensor.contiguous() for name, tensor in module.state_dict().items()}
    for name, parameter in module.named_parameters():
        for moment in ("exp_avg", "exp_avg_sq"):
            if parameter in optimiser.state:
                tensors[f"{moment}/{name}"] = optimiser.state[parameter][moment]
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".unfinished")
    save_file(tensors, unfinished, metadata={"step": str(step), "recipe": json.dumps(asdict(recipe), sort_keys=True)})
    unfinished.replace(path)


def _restore(module: nn.Module, optimiser: torch.optim.AdamW, recipe: Recipe, path: Path) -> int:
    """Load a saved state and return the step to go on with; 0 when there is none."""
    if not path.exists():
        return 0
    try:
        with safe_open(path, framework="pt") as file:
            facts = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
        begun, step = json.loads(facts["recipe"]), int(facts["step"])
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise CheckpointError(f"'{path}' is no training state ({error}); remove it to start anew.") from error
    if begun != asdict(recipe):
        changed = [
            f"{name} {begun.get(name)}, not {value}"
            for name, value in asdict(recipe).items()
            if begun.get(name) != value
        ]
        raise CheckpointError(
            f"'{path}' was begun with {' and '.join(changed) or 'options of another version'}; go on with the same "
            f"recipe, or remove the file to start anew."
        )
    prefix = "weights/"
    module.load_state_dict({name[len(prefix) :]: t for name, t in tensors.items() if name.startswith(prefix)})
    for name, parameter in module.named_parameters():
        if f"exp_avg/{name}" in tensors:
            optimiser.state[parameter] = {
                "step": torch.tensor(float(step)),
                "exp_avg": tensors[f"exp_avg/{name}"].to(parameter.device),
                "exp_avg_sq": tensors[f"exp_avg_sq/{name}"].to(parameter.device),
            }
    return step
