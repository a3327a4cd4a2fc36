"""`python -m services.inference.training`: train Kronos-nano, or anything of its shape, on files of klines."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import torch

from services.inference.training.checkpoint_folder import write_checkpoint
from services.inference.training.fit_model import fit_model
from services.inference.training.fit_tokenizer import fit_tokenizer, tokenizer_quality
from services.inference.training.kline_files import find_kline_files, read_stretches
from services.inference.training.optimisation import SAVE_EVERY_S, Progress, Recipe
from services.inference.training.sizes import MODEL_NAME, NANO_MODEL, NANO_TOKENIZER, TOKENIZER_NAME
from services.inference.training.windows import WindowSource
from services.inference.weights import load_tokenizer
from shared.errors import KronosLiveError
from shared.klines import Interval

HELP = """Train the small checkpoint on files of past klines: first the tokenizer, then the model on its tokens.

\b
  python -m services.inference.training all --klines DIR --out DIR --until 2024-12-31

DIR of --klines holds SYMBOL-INTERVAL.csv or .csv.gz with the columns open_time (UTC ms), open, high, low, close, volume
and, if known, amount. --out gets Kronos-Tokenizer-nano/ and Kronos-nano/ in the published layout, and in state/ what a
run needs to go on: start an interrupted run again with the same options and it ends with the same weights.
"""

Command = Callable[..., None]


@dataclasses.dataclass(frozen=True)
class _Plan:
    """What all three commands share."""

    klines: Path
    out: Path
    until: datetime
    interval: Interval
    window: int
    history: tuple[int, int]
    save_every_s: float

    def source(self) -> WindowSource:
        before_ms = int(self.until.replace(tzinfo=UTC).timestamp() * 1000) + Interval.D1.ms
        files = find_kline_files(self.klines, self.interval)
        stretches = [s.between(0, before_ms) for file in files for s in read_stretches(file, self.interval)]
        source = WindowSource(stretches, self.window)
        click.echo(
            f"{len(files)} files, {sum(map(len, stretches)):,} candles, {len(source):,} windows of {self.window}"
        )
        return source


def shared_options(command: Command) -> Command:
    """The options that every command takes."""
    options = (
        click.option("--klines", required=True, type=click.Path(path_type=Path), help="Folder of kline files."),
        click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder for checkpoints and state."),
        click.option(
            "--until", required=True, type=click.DateTime(["%Y-%m-%d"]), help="Last day learned from, in UTC, included."
        ),
        click.option("--interval", default="1h", type=click.Choice([i.value for i in Interval]), show_default=True),
        click.option("--window", default=384, type=click.IntRange(min=32), show_default=True, help="Candles a window."),
        click.option(
            "--history",
            default=(128, 360),
            type=click.IntRange(min=2),
            nargs=2,
            show_default=True,
            help="Shortest and longest part of a window that gives its mean and std.",
        ),
        click.option("--batch", default=8, type=click.IntRange(min=1), show_default=True, help="Windows a step."),
        click.option("--learning-rate", default=2e-3, type=click.FloatRange(min=0, min_open=True), show_default=True),
        click.option("--seed", default=1, type=click.IntRange(min=0), show_default=True),
        click.option("--threads", default=2, type=click.IntRange(min=1), show_default=True, help="CPU threads."),
        click.option(
            "--save-every", default=SAVE_EVERY_S, type=click.FloatRange(min=0), show_default=True, help="Seconds."
        ),
        click.option("--bfloat16", is_flag=True, help="bf16 autocast; no faster on a CPU at this size."),
    )
    for option in reversed(options):
        command = option(command)
    return command


def steps_option(name: str, default: int) -> Callable[[Command], Command]:
    return click.option(name, default=default, type=click.IntRange(min=1), show_default=True, help="Optimiser steps.")


@click.group(help=HELP)
def main() -> None:
    pass


@main.command(help="Train the tokenizer only.")
@shared_options
@steps_option("--steps", 3000)
def tokenizer(steps: int, **options: Any) -> None:
    plan = _plan(options)
    _fit_tokenizer(plan, plan.source(), _recipe(options, steps))


@main.command(help="Train the model on the tokens of the tokenizer that lies in --out.")
@shared_options
@steps_option("--steps", 3000)
def model(steps: int, **options: Any) -> None:
    plan = _plan(options)
    _fit_model(plan, plan.source(), _recipe(options, steps))


@main.command("all", help="Train the tokenizer, then the model.")
@shared_options
@steps_option("--tokenizer-steps", 3000)
@steps_option("--model-steps", 3000)
def both(tokenizer_steps: int, model_steps: int, **options: Any) -> None:
    plan = _plan(options)
    source = plan.source()
    _fit_tokenizer(plan, source, _recipe(options, tokenizer_steps))
    _fit_model(plan, source, _recipe(options, model_steps))


def _fit_tokenizer(plan: _Plan, source: WindowSource, recipe: Recipe) -> None:
    state = plan.out / "state" / f"{TOKENIZER_NAME}.safetensors"
    fitted = fit_tokenizer(
        NANO_TOKENIZER, source, plan.history, recipe, state, _say("tokenizer"), save_every_s=plan.save_every_s
    )
    size = write_checkpoint(fitted, plan.out / TOKENIZER_NAME)
    quality = tokenizer_quality(fitted, source, windows=64, history=plan.history[1])
    click.echo(json.dumps({"checkpoint": TOKENIZER_NAME, "bytes": size, **quality}))


def _fit_model(plan: _Plan, source: WindowSource, recipe: Recipe) -> None:
    state = plan.out / "state" / f"{MODEL_NAME}.safetensors"
    teacher = load_tokenizer(plan.out / TOKENIZER_NAME)
    fitted = fit_model(
        NANO_MODEL, teacher, source, plan.history, recipe, state, _say("model"), save_every_s=plan.save_every_s
    )
    click.echo(json.dumps({"checkpoint": MODEL_NAME, "bytes": write_checkpoint(fitted, plan.out / MODEL_NAME)}))


def _plan(options: dict[str, Any]) -> _Plan:
    shortest, longest = options["history"]
    if not shortest <= longest <= options["window"]:
        raise click.BadParameter(
            f"it is {shortest} to {longest}; allowed is shortest <= longest <= --window ({options['window']}).",
            param_hint="--history",
        )
    torch.set_num_threads(options["threads"])
    return _Plan(
        options["klines"],
        options["out"],
        options["until"],
        Interval(options["interval"]),
        options["window"],
        (shortest, longest),
        options["save_every"],
    )


def _recipe(options: dict[str, Any], steps: int) -> Recipe:
    return Recipe(steps, options["batch"], options["learning_rate"], options["seed"], options["bfloat16"])


def _say(what: str) -> Callable[[Progress], None]:
    def report(progress: Progress) -> None:
        parts = "  ".join(f"{name} {value:.4f}" for name, value in progress.parts.items())
        click.echo(
            f"{what} {progress.step}/{progress.steps}  loss {progress.loss:.4f}  {parts}  "
            f"{progress.seconds_left / 60:.1f} min left"
        )

    return report


if __name__ == "__main__":
    try:
        main(standalone_mode=True)
    except (KronosLiveError, OSError) as error:
        raise SystemExit(str(error)) from None
