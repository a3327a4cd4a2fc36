"""The options that `kronos-live train` and `fine-tune` share, and what they are called in their help."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import click

from shared.klines import Interval

Command = Callable[..., None]
DAY = click.DateTime(["%Y-%m-%d"])


OPTIONS = (
    click.argument("sources", nargs=-1, required=True),
    click.option(
        "--out", required=True, type=click.Path(file_okay=False, path_type=Path), help="Folder that it goes to."
    ),
    click.option("--interval", default="1h", type=click.Choice([i.value for i in Interval]), show_default=True),
    click.option("--until", type=DAY, help="Last UTC day learned from. [default: nine tenths of the candles]"),
    click.option("--validate-until", type=DAY, help="Last UTC day validated on. [default: the last there is]"),
    click.option(
        "--gap", default=24, type=click.IntRange(0), show_default=True, help="Candles between; at least --horizon."
    ),
    click.option(
        "--known", default=360, type=click.IntRange(64), show_default=True, help="Candles that validation knows."
    ),
    click.option(
        "--horizon", default=24, type=click.IntRange(1), show_default=True, help="Candles that it is scored on."
    ),
    click.option(
        "--window", default=384, type=click.IntRange(32), show_default=True, help="Candles of a training window."
    ),
    click.option(
        "--history",
        default=(128, 360),
        type=click.IntRange(2),
        nargs=2,
        show_default=True,
        help="Shortest and longest part of a training window that gives its mean and std.",
    ),
    click.option("--batch", default=8, type=click.IntRange(1), show_default=True, help="Windows a step."),
    click.option("--validate-every", default=100, type=click.IntRange(1), show_default=True, help="Steps."),
    click.option("--patience", default=8, type=click.IntRange(0), show_default=True, help="Validations; 0 for no end."),
    click.option(
        "--mirrored",
        default=0.0,
        type=click.FloatRange(0, 1),
        show_default=True,
        help="Share of windows that are turned upside down, so that no trend of the past is learned.",
    ),
    click.option(
        "--muon/--adamw",
        default=None,
        help="Muon for the blocks' matrices, or AdamW for all. [default: Muon in train, AdamW in fine-tune]",
    ),
    click.option("--seed", default=1, type=click.IntRange(0), show_default=True),
    click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N."),
    click.option("--threads", type=click.IntRange(1), help="CPU threads. [default: all cores]"),
    click.option(
        "--precision",
        default="auto",
        type=click.Choice(["auto", "float32", "bfloat16"]),
        show_default=True,
        help="auto: bfloat16 on CUDA, float32 on a CPU, where bfloat16 gains a sixth if the processor knows it.",
    ),
    click.option(
        "--compile", "compiled", is_flag=True, help="torch.compile; pays for long runs, needs a C++ compiler."
    ),
    click.option("--json", "as_json", is_flag=True, help="Print what came out as JSON."),
)


def training_options(command: Command) -> Command:
    """What both ask of klines, machine and run, in the order in which help shows them."""
    for option in reversed(OPTIONS):
        command = option(command)
    return command


def learning_rate_option(default: float) -> Callable[[Command], Command]:
    return click.option("--learning-rate", default=default, type=click.FloatRange(0, min_open=True), show_default=True)
