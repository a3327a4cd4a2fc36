"""`kronos-live train` and `kronos-live fine-tune`: a checkpoint of one's own from past klines."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from services.cli.common import errors_in_one_line, stores
from services.cli.training_progress import TrainingProgress
from shared.errors import RequestError
from shared.klines import Interval, utc
from shared.settings import MODEL_NAMES, load_settings

SOURCES = """SOURCES are files of klines (CSV, gzipped or not, or Parquet) named SYMBOL-INTERVAL, as BTCUSDT-1h.csv.gz, with the
columns open_time (UTC ms), open, high, low, close, volume and, if known, amount; or folders of such files; or symbols
that ingest keeps up, from its store in Redis.

Candles that close by --until are learned from. Validation scores what opens --gap candles later and after, up to
--validate-until; the weights kept are those with the lowest validation loss, and --patience validations without a better one
end the run. An interrupted run goes on when it is started again with the same options, and ends with the same weights."""
TRAIN_HELP = f"""Train a new tokenizer and model on past klines.

\b
  kronos-live train klines/ --out runs/nano --until 2024-12-31 --validate-until 2025-06-30

{SOURCES}
"""
FINE_TUNE_HELP = f"""Train a checkpoint on, with klines of your own market.

\b
  kronos-live fine-tune BTCUSDT-1h.csv.gz --from Kronos-nano --out runs/btc
  KRONOS_MODEL__LOCAL_DIR=runs/btc KRONOS_MODEL__MODEL_NAME=Kronos-nano kronos-live worker

{SOURCES}

--lora-rank trains low-rank additions alone (LoRA), which are merged in the end: less to learn, less to forget.
"""

Command = Callable[..., None]
_day = click.DateTime(["%Y-%m-%d"])


def data_options(command: Command) -> Command:
    """What both commands ask of klines, machine and run."""
    options = (
        click.argument("sources", nargs=-1, required=True),
        click.option(
            "--out", required=True, type=click.Path(file_okay=False, path_type=Path), help="Folder that it goes to."
        ),
        click.option("--interval", default="1h", type=click.Choice([i.value for i in Interval]), show_default=True),
        click.option("--until", type=_day, help="Last UTC day learned from. [default: nine tenths of the candles]"),
        click.option("--validate-until", type=_day, help="Last UTC day validated on. [default: the last there is]"),
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
        click.option(
            "--patience", default=8, type=click.IntRange(0), show_default=True, help="Validations; 0 for no end."
        ),
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
            help="auto: bfloat16 on CUDA; on a CPU it is no faster at this size.",
        ),
        click.option(
            "--compile", "compiled", is_flag=True, help="torch.compile; pays for long runs, needs a C++ compiler."
        ),
        click.option("--json", "as_json", is_flag=True, help="Print what came out as JSON."),
    )
    for option in reversed(options):
        command = option(command)
    return command


def _rate(default: float) -> Callable[[Command], Command]:
    return click.option("--learning-rate", default=default, type=click.FloatRange(0, min_open=True), show_default=True)


@click.command(help=TRAIN_HELP)
@data_options
@click.option("--tokenizer-steps", default=3000, type=click.IntRange(1), show_default=True)
@click.option("--model-steps", default=3000, type=click.IntRange(1), show_default=True)
@_rate(2e-3)
@click.option(
    "--tokenizer-config",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A config.json in the published layout. [default: Kronos-Tokenizer-nano's]",
)
@click.option(
    "--model-config",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Likewise. [default: Kronos-nano's]",
)
@click.option(
    "--name", default="Kronos-nano", type=click.Choice(MODEL_NAMES), show_default=True, help="What it is served as."
)
@errors_in_one_line
def train(tokenizer_config: Path | None, model_config: Path | None, name: str, as_json: bool, **options: Any) -> None:
    from services.inference.checkpoint_card import CardSampling
    from services.inference.training import train as story
    from services.inference.training.sizes import read_configs

    configs = read_configs(tokenizer_config, model_config)
    setting, stretches = _setting(name, CardSampling(temperature=1.0, top_p=1.0), 0, options)  # the model's own opinion
    for_tokenizer, for_model = (
        _recipe(setting, options, options[part], "") for part in ("tokenizer_steps", "model_steps")
    )
    with TrainingProgress() as progress:
        outcome = story.train(setting, *configs, for_tokenizer, for_model, progress.tell)
    _end(setting, outcome, stretches, options, "", as_json)


@click.command("fine-tune", help=FINE_TUNE_HELP)
@data_options
@click.option(
    "--from",
    "base",
    default="Kronos-nano",
    show_default=True,
    help="One of them, or a folder that holds one.",
)
@click.option("--steps", default=600, type=click.IntRange(1), show_default=True, help="Of the model.")
@click.option(
    "--tokenizer-steps", default=0, type=click.IntRange(0), show_default=True, help="0 leaves the tokenizer as it is."
)
@_rate(2e-4)
@click.option("--lora-rank", default=0, type=click.IntRange(0, 256), show_default=True, help="0 trains all weights.")
@errors_in_one_line
def fine_tune(base: str, as_json: bool, lora_rank: int, steps: int, tokenizer_steps: int, **options: Any) -> None:
    from services.inference.checkpoint_card import read_card
    from services.inference.scorekeeper import PUBLISHED_TRAINED_UNTIL_MS
    from services.inference.training import train as story
    from services.inference.weights import WEIGHTS_FILE, sha256_of

    name, folders = _base(base)
    card = read_card(folders[0])
    setting, stretches = _setting(name, card.sampling, card.trained_until_ms or PUBLISHED_TRAINED_UNTIL_MS, options)
    if setting.out.resolve() == folders[0].parent.resolve():
        raise RequestError(f"--out {setting.out} holds the checkpoint that is begun with: choose another folder.")
    given = " ".join([*(sha256_of(folder / WEIGHTS_FILE)[:12] for folder in folders), f"rank {lora_rank}"])
    tokenizer_recipe = _recipe(setting, options, tokenizer_steps, given) if tokenizer_steps else None
    with TrainingProgress() as progress:
        outcome = story.fine_tune(
            setting, *folders, tokenizer_recipe, _recipe(setting, options, steps, given), progress.tell, rank=lora_rank
        )
    _end(setting, outcome, stretches, options, base, as_json)


def _base(base: str) -> tuple[str, tuple[Path, Path]]:
    """A model's name -> itself and its folders; a folder that holds one and its tokenizer likewise."""
    from services.inference.checkpoints import find_folders, known_model, model_policy

    if base in MODEL_NAMES:
        return base, find_folders(base, model_policy(load_settings().model))
    held = [name for name in MODEL_NAMES if (Path(base) / name).is_dir()]
    if len(held) != 1:
        raise RequestError(
            f"--from {base} is neither a model ({', '.join(MODEL_NAMES)}) nor a folder that holds one of them and its tokenizer."
        )
    return held[0], (Path(base) / held[0], Path(base) / known_model(held[0]).tokenizer.name)


def _setting(name: str, sampling: Any, seen_until_ms: int, options: dict[str, Any]) -> tuple[Any, Any]:
    """What is learned from and where it goes; and the klines themselves."""
    import torch

    from services.inference.checkpoints import known_model, resolve_device
    from services.inference.processors import cores_available
    from services.inference.training.kline_sources import read_sources
    from services.inference.training.time_split import share_of_time, split_by_time
    from services.inference.training.train import Setting

    interval, (shortest, longest) = Interval(options["interval"]), options["history"]
    if not shortest <= longest <= options["window"]:
        raise RequestError(
            f"--history is {shortest} to {longest}; allowed is shortest <= longest <= --window ({options['window']})."
        )
    if options["gap"] < options["horizon"]:
        raise RequestError(f"--gap is {options['gap']}; allowed is --horizon ({options['horizon']}) or more.")
    stretches = read_sources(options["sources"], interval, lambda: stores(load_settings())[0])
    last = max(int(stretch.open_times_ms[-1]) for stretch in stretches) + interval.ms
    split = split_by_time(
        stretches,
        interval,
        until_ms=end_of_day(options["until"]) if options["until"] else share_of_time(stretches, 0.9, interval),
        validated_until_ms=end_of_day(options["validate_until"]) if options["validate_until"] else last,
        gap=options["gap"],
        window=options["window"],
        history=options["known"],
        horizon=options["horizon"],
    )
    torch.set_num_threads(options["threads"] or cores_available())
    setting = Setting(
        split,
        (shortest, longest),
        options["known"],
        options["out"],
        name,
        known_model(name).tokenizer.name,
        sampling,
        seen_until_ms,
        resolve_device(options["device"]),
        options["compiled"],
    )
    _say(
        f"{len({stretch.symbol for stretch in stretches})} series, {sum(map(len, stretches)):,} candles. Learned from: "
        f"{len(split.learned):,} windows until {utc(split.until_ms)}. Validated on: {len(split.validated):,} windows, from "
        f"{utc(split.validated_from_ms)} to {utc(split.validated_until_ms)}."
    )
    return setting, stretches


def _recipe(setting: Any, options: dict[str, Any], steps: int, given: str) -> Any:
    from services.inference.training.recipe import Recipe

    precision = options["precision"]
    return Recipe(
        steps=steps,
        batch=options["batch"],
        learning_rate=options["learning_rate"],
        seed=options["seed"],
        bfloat16=precision == "bfloat16" or (precision == "auto" and setting.device.type == "cuda"),
        validate_every=options["validate_every"],
        patience=options["patience"],
        mirrored=options["mirrored"],
        muon=not given if options["muon"] is None else options["muon"],  # what it gains was measured on new weights
        given=f"klines {setting.split.digest()} {given}".strip(),
    )


def _end(setting: Any, outcome: Any, stretches: Any, options: dict[str, Any], base: str, as_json: bool) -> None:
    """The card, and a few words on what came out and how to use it."""
    from services.inference.training.model_card import write_card

    card = write_card(setting, outcome, stretches, Interval(options["interval"]), base)
    if as_json:
        click.echo(json.dumps(_told(setting, outcome)))
        return
    for name, one in _parts(outcome):
        if one:
            fitted = one.fitted
            _say(
                f"The {name}'s validation loss went from {fitted.first_validation:.4f} to {fitted.best_validation:.4f}, at step "
                f"{fitted.best_step} of {fitted.steps} ({one.seconds / 60:.1f} min)."
            )
    _say(f"Written: {setting.out / setting.model_name}, {setting.out / setting.tokenizer_name}, {card}.")
    _say(
        f"Serve it: KRONOS_MODEL__LOCAL_DIR={setting.out} KRONOS_MODEL__MODEL_NAME={setting.model_name} kronos-live worker; "
        f"score it: the same before kronos-live backtest."
    )


def end_of_day(day: datetime) -> int:
    """The moment in UTC ms at which it is over."""
    return int(day.replace(tzinfo=UTC).timestamp() * 1000) + Interval.D1.ms


def _told(setting: Any, outcome: Any) -> dict[str, Any]:
    """As JSON has it."""
    parts = {name: one and {**asdict(one.fitted), "seconds": one.seconds} for name, one in _parts(outcome)}
    tokens = {name: asdict(one) for name, one in outcome.entropy.items()}
    return {**parts, "quality": asdict(outcome.quality), "tokens": tokens, "out": str(setting.out)}


def _parts(outcome: Any) -> tuple[tuple[str, Any], ...]:
    return ("tokenizer", outcome.tokenizer), ("model", outcome.model)


def _say(sentence: str) -> None:
    Console(stderr=True, highlight=False, soft_wrap=True).print(sentence)
