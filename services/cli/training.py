"""`kronos-live train` and `kronos-live fine-tune`: a checkpoint of one's own from past klines."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from services.cli.common import errors_in_one_line
from services.cli.stopping import stopped_in_one_sentence
from services.cli.training_options import learning_rate_option, training_options
from services.cli.training_progress import TrainingProgress, say
from services.cli.training_setting import base_of, recipe_of, setting_of
from services.cli.writing import written_to
from shared.errors import RequestError
from shared.klines import Interval
from shared.settings import MODEL_NAMES

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


@click.command(help=TRAIN_HELP)
@training_options
@click.option("--tokenizer-steps", default=3000, type=click.IntRange(1), show_default=True)
@click.option("--model-steps", default=3000, type=click.IntRange(1), show_default=True)
@learning_rate_option(2e-3)
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
    from services.inference.training.optimisation import SAVE_EVERY_S
    from services.inference.training.sizes import read_configs

    own_opinion = CardSampling(temperature=1.0, top_p=1.0)
    with _stopped_or_full(options["out"], story.STATE, SAVE_EVERY_S):
        configs = read_configs(tokenizer_config, model_config)
        setting, stretches = setting_of(name, own_opinion, 0, options)
        for_tokenizer, for_model = (
            recipe_of(setting, options, options[part], "") for part in ("tokenizer_steps", "model_steps")
        )
        with TrainingProgress() as progress:
            outcome = story.train(setting, *configs, for_tokenizer, for_model, progress.tell)
        _end(setting, outcome, stretches, options, "", as_json)


@click.command("fine-tune", help=FINE_TUNE_HELP)
@training_options
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
@learning_rate_option(2e-4)
@click.option("--lora-rank", default=0, type=click.IntRange(0, 256), show_default=True, help="0 trains all weights.")
@errors_in_one_line
def fine_tune(base: str, as_json: bool, lora_rank: int, steps: int, tokenizer_steps: int, **options: Any) -> None:
    from services.inference.checkpoint_card import read_card
    from services.inference.scorekeeper import PUBLISHED_TRAINED_UNTIL_MS
    from services.inference.training import train as story
    from services.inference.training.optimisation import SAVE_EVERY_S
    from services.inference.weights import WEIGHTS_FILE, sha256_of

    with _stopped_or_full(options["out"], story.STATE, SAVE_EVERY_S):
        name, folders = base_of(base)
        card = read_card(folders[0])
        setting, stretches = setting_of(
            name, card.sampling, card.trained_until_ms or PUBLISHED_TRAINED_UNTIL_MS, options
        )
        if setting.out.resolve() == folders[0].parent.resolve():
            raise RequestError(f"--out {setting.out} holds the checkpoint that is begun with: choose another folder.")
        given = " ".join([*(sha256_of(folder / WEIGHTS_FILE)[:12] for folder in folders), f"rank {lora_rank}"])
        tokenizer_recipe = recipe_of(setting, options, tokenizer_steps, given) if tokenizer_steps else None
        with TrainingProgress() as progress:
            outcome = story.fine_tune(
                setting,
                *folders,
                tokenizer_recipe,
                recipe_of(setting, options, steps, given),
                progress.tell,
                rank=lora_rank,
            )
        _end(setting, outcome, stretches, options, base, as_json)


@contextmanager
def _stopped_or_full(out: Path, state: str, save_every_s: float) -> Iterator[None]:
    """What is inside may be stopped, and may find no room: both are told in a sentence that says how to go on."""

    def what_then() -> str:
        if any((out / state).glob("*.safetensors")):
            return f"the same command goes on from what is kept in '{out / state}', and ends with the same weights."
        return f"nothing was kept yet, which is done every {save_every_s:g} s, so the same command begins anew."

    with written_to(out), stopped_in_one_sentence(what_then):
        yield


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
            say(
                f"The {name}'s validation loss went from {fitted.first_validation:.4f} to {fitted.best_validation:.4f}, at step "
                f"{fitted.best_step} of {fitted.steps} ({one.seconds / 60:.1f} min)."
            )
    say(f"Written: {setting.out / setting.model_name}, {setting.out / setting.tokenizer_name}, {card}.")
    say(
        f"Serve it: KRONOS_MODEL__LOCAL_DIR={setting.out} KRONOS_MODEL__MODEL_NAME={setting.model_name} kronos-live worker; "
        f"score it: the same before kronos-live backtest."
    )


def _told(setting: Any, outcome: Any) -> dict[str, Any]:
    """As JSON has it."""
    parts = {name: one and {**asdict(one.fitted), "seconds": one.seconds} for name, one in _parts(outcome)}
    tokens = {name: asdict(one) for name, one in outcome.entropy.items()}
    return {**parts, "quality": asdict(outcome.quality), "tokens": tokens, "out": str(setting.out)}


def _parts(outcome: Any) -> tuple[tuple[str, Any], ...]:
    return ("tokenizer", outcome.tokenizer), ("model", outcome.model)
