"""`python -m benchmarks.ablations KLINES ... --from CHECKPOINT`: what each choice in the model's training is worth."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

import click
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

import services.inference  # noqa: F401 - before torch: it says how torch's threads wait
from services.cli.training_setting import end_of_day
from services.inference.model.config import KronosConfig
from services.inference.model.kronos import Kronos
from services.inference.training import fit_model as fitting
from services.inference.training.kline_files import Stretch
from services.inference.training.kline_sources import read_sources
from services.inference.training.recipe import Recipe
from services.inference.training.sizes import NANO_MODEL, TOKENIZER_NAME
from services.inference.training.time_split import split_by_time
from services.inference.training.windows import WindowBatch, WindowSource
from services.inference.weights import load_tokenizer
from shared.klines import Interval

HELP = """Train Kronos-nano for a few steps, once as it is made and once for every choice with that one thing changed.

\b
  python -m benchmarks.ablations klines/ --from runs/nano --until 2024-12-31 --validate-until 2025-06-30

All use the tokenizer in --from, so their validation losses (nats a token, mean of coarse and fine) are of the same tokens and
comparable. Every result is a line of --out; a choice that has its line there is not run again. `another seed` tells how much
of a difference is luck. NAMEs of choices may be given after `--only`, comma-separated.
"""
KNOWN, HORIZON = 360, 24
WINDOW, HISTORY = 384, (128, 360)
HOUR_STEPS, DAY_STEPS = 24, 7  # values of the time features `hour` and `weekday`
Change = Callable[[WindowBatch, np.random.Generator], WindowBatch]


@dataclass(frozen=True)
class Choice:
    """What differs from the way the bundled model was made."""

    name: str
    recipe: dict[str, Any] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    window: int = WINDOW
    history: tuple[int, int] = HISTORY
    change: Change | None = None  # of the windows learned from
    changed_too: bool = False  # those validated on likewise
    smoothing: float = 0.0


def _without_time(batch: WindowBatch, _: np.random.Generator) -> WindowBatch:
    return replace(batch, time_features=torch.zeros_like(batch.time_features))


def _at_another_hour(batch: WindowBatch, generator: np.random.Generator) -> WindowBatch:
    """Each window as if its hours and weekdays were others: what a model learns of them is then noise."""
    times = batch.time_features.clone()
    for column, size in ((1, HOUR_STEPS), (2, DAY_STEPS)):
        shift = torch.from_numpy(generator.integers(size, size=(len(times), 1)))
        times[:, :, column] = (times[:, :, column] + shift) % size
    return replace(batch, time_features=times)


def _scaled(batch: WindowBatch, generator: np.random.Generator) -> WindowBatch:
    """Prices, and volumes by themselves, up to a quarter nearer to or further from their mean."""
    factors = np.exp(generator.uniform(-np.log(1.25), np.log(1.25), size=(len(batch.candles), 1, 2)))
    by_column = np.repeat(factors, (4, 2), axis=2).astype(np.float32)
    return replace(batch, candles=(batch.candles * torch.from_numpy(by_column)).clamp(-5, 5))


CHOICES = (
    Choice("as made"),
    Choice("another seed", recipe={"seed": 2}),
    Choice("label smoothing 0.05", smoothing=0.05),
    Choice("no time features", change=_without_time, changed_too=True),
    Choice("no mirrored windows", recipe={"mirrored": 0.0}),
    Choice("prices and volumes scaled", change=_scaled),
    Choice("hours and weekdays shifted", change=_at_another_hour),
    Choice("dropout 0.1", config={"resid_dropout_p": 0.1, "ffn_dropout_p": 0.1, "token_dropout_p": 0.1}),
    Choice("AdamW alone", recipe={"muon": False}),
    Choice("peak rate 4e-3", recipe={"learning_rate": 4e-3}),
    Choice("peak rate 1e-3", recipe={"learning_rate": 1e-3}),
    Choice("256 candles", window=256, history=(128, 232)),
    Choice("width 192", config={"d_model": 192, "n_heads": 6, "ff_dim": 384}),
    Choice("2 layers", config={"n_layers": 2}),
    Choice("8 layers", config={"n_layers": 8}),
    Choice("16 windows a step", recipe={"batch": 16}),
    Choice("twice the steps", recipe={"steps": 2}),
)


class ChangedSource(WindowSource):
    """Windows as a change leaves them."""

    def __init__(self, stretches: list[Stretch], length: int, change: Change) -> None:
        super().__init__(stretches, length)
        self._change = change

    def draw(
        self, generator: np.random.Generator, count: int, history: tuple[int, int], mirrored: float = 0.0
    ) -> WindowBatch:
        return self._change(super().draw(generator, count, history, mirrored), generator)

    def in_batches(self, count: int, history: int, size: int) -> Iterator[WindowBatch]:
        generator = np.random.default_rng(0)
        return (self._change(batch, generator) for batch in super().in_batches(count, history, size))


@click.command(help=HELP)
@click.argument("sources", nargs=-1, required=True)
@click.option("--from", "folder", required=True, type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--out", default="ablations.jsonl", show_default=True, type=click.Path(dir_okay=False, path_type=Path))
@click.option("--until", required=True, type=click.DateTime(["%Y-%m-%d"]))
@click.option("--validate-until", required=True, type=click.DateTime(["%Y-%m-%d"]))
@click.option("--steps", default=400, show_default=True, type=click.IntRange(1))
@click.option("--only", help="Names of choices. [default: all]")
@click.option("--threads", default=2, show_default=True, type=click.IntRange(1))
def main(
    sources: tuple[str, ...],
    folder: Path,
    out: Path,
    until: Any,
    validate_until: Any,
    steps: int,
    only: str | None,
    threads: int,
) -> None:
    torch.set_num_threads(threads)
    wanted = only.split(",") if only else [choice.name for choice in CHOICES]
    if unknown := set(wanted) - {choice.name for choice in CHOICES}:
        raise click.ClickException(
            f"There is no choice {min(unknown)!r}; there are: {', '.join(c.name for c in CHOICES)}."
        )
    done = {json.loads(line)["name"] for line in out.read_text().splitlines()} if out.exists() else set()
    stretches = read_sources(sources, Interval.H1, _no_store)
    for choice in (one for one in CHOICES if one.name in wanted and one.name not in done):
        result = _run(choice, stretches, folder / TOKENIZER_NAME, steps, end_of_day(until), end_of_day(validate_until))
        with out.open("a") as lines:
            lines.write(json.dumps(result) + "\n")
        click.echo(json.dumps(result))


def _run(
    choice: Choice, stretches: list[Stretch], tokenizer: Path, steps: int, until_ms: int, validated_until_ms: int
) -> dict[str, Any]:
    recipe = Recipe(steps, batch=8, learning_rate=2e-3, seed=1, muon=True, mirrored=0.5, validate_every=10**9)
    recipe = replace(recipe, **{**choice.recipe, "steps": steps * choice.recipe.get("steps", 1)})
    split = split_by_time(
        stretches,
        Interval.H1,
        until_ms=until_ms,
        validated_until_ms=validated_until_ms,
        gap=HORIZON,
        window=choice.window,
        history=KNOWN,
        horizon=HORIZON,
    )
    learned, validated = split.learned, split.validated
    if choice.change:
        learned = ChangedSource([one.between(0, until_ms) for one in stretches], choice.window, choice.change)
    if choice.change and choice.changed_too:
        since = split.validated_from_ms - KNOWN * Interval.H1.ms
        later = [one.between(since, validated_until_ms) for one in stretches]
        validated = ChangedSource(later, KNOWN + HORIZON, choice.change)
    torch.manual_seed(recipe.seed)
    model = Kronos(KronosConfig.from_dict({**NANO_MODEL.to_dict(), **choice.config}))
    started = time.monotonic()
    with TemporaryDirectory() as state, _smoothed(choice.smoothing):
        fitted = fitting.fit_model(
            model,
            load_tokenizer(tokenizer),
            learned,
            choice.history,
            recipe,
            Path(state) / "state.safetensors",
            lambda _: None,
            validated=validated,
            validated_history=KNOWN,
        )
    seconds = (time.monotonic() - started) / recipe.steps
    parameters = sum(one.numel() for one in model.parameters())
    return {
        "name": choice.name,
        "steps": recipe.steps,
        "validation": fitted.best_validation,
        "parameters": parameters,
        "seconds_a_step": seconds,
    }


@contextmanager
def _smoothed(share: float) -> Iterator[None]:
    """The loss with `share` of each target spread over all tokens, in training only: validation stays comparable."""
    plain = fitting._cross_entropy

    def smoothed(logits: Tensor, targets: Tensor) -> Tensor:
        if not torch.is_grad_enabled():
            return plain(logits, targets)
        found = functional.cross_entropy(
            logits.float().flatten(0, 1), targets.flatten(), reduction="none", label_smoothing=share
        )
        return found.view_as(targets)

    with patch.object(fitting, "_cross_entropy", smoothed):
        yield


def _no_store() -> Any:
    raise click.ClickException("Give files or folders of klines, not symbols.")


if __name__ == "__main__":
    main()
