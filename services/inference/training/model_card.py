"""What a checkpoint's card says of how it was made: read by people, its head by programs (YAML, as on the hub)."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from services.inference.checkpoint_card import CARD_FILE
from services.inference.training.kline_files import Stretch
from services.inference.training.train import Outcome, Setting, Trained
from services.inference.training.windows import WindowSource
from services.inference.weights import WEIGHTS_FILE, sha256_of
from shared.klines import Interval, utc


def write_card(setting: Setting, outcome: Outcome, stretches: Sequence[Stretch], interval: Interval, base: str) -> Path:
    """Beside the model; `base` names the checkpoint that it began with, empty for none."""
    split, model = setting.split, setting.out / setting.model_name
    seen_until_ms = max(split.validated_until_ms, setting.seen_until_ms)
    symbols = sorted({stretch.symbol for stretch in stretches})
    parts = [
        f"---\nsampling: {{temperature: {setting.sampling.temperature:g}, top_p: {setting.sampling.top_p:g}}}\n"
        f"trained_until: {utc(seen_until_ms).replace(' ', 'T')}  # validation included\n---",
        f"# {setting.model_name}" + (f", fine-tuned from {base}" if base else ", trained from random weights"),
        f"Made by Kronos Live {version('kronos-live')} with torch {version('torch')} on {platform.machine()}, "
        f"{setting.device}, {datetime.now(UTC):%Y-%m-%d}. Nothing here says that it forecasts well: score it with "
        f"`kronos-live backtest` on klines after {utc(seen_until_ms)}.",
        "## Data",
        f"Klines of {interval} of {', '.join(symbols)}. Learned from: {_windows(split.learned)} that close by "
        f"{utc(split.until_ms)}. Validated on: {_windows(split.validated)}, scored on what follows the first "
        f"{setting.known} candles, which opens from {utc(split.validated_from_ms)} on and closes by "
        f"{utc(split.validated_until_ms)}. No window crosses a gap.",
        "## Training",
        _trainings(outcome),
        "## Tokenizer, on the validation windows",
        _quality(outcome),
        "## Tokens, on the validation windows",
        "In nats; unigram is the entropy of how often each of the same tokens occurs. The fine token is given its coarse one.",
        _tokens(outcome),
        "## Files",
        "\n".join(
            f"- {name}/{WEIGHTS_FILE}: sha256 {sha256_of(setting.out / name / WEIGHTS_FILE)}"
            for name in (setting.model_name, setting.tokenizer_name)
        ),
    ]
    card = model / CARD_FILE
    card.write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    return card


def _windows(source: WindowSource) -> str:
    return f"{len(source):,} windows of {source.length} candles"


def _trainings(outcome: Outcome) -> str:
    head = "| | parameters (trained) | steps, kept | windows a step | peak rate | seed | validation: first, best | minutes |"
    rows = [head, "|---|---|---|---|---|---|---|---|"]
    rows += [_row(name, one) for name, one in (("tokenizer", outcome.tokenizer), ("model", outcome.model)) if one]
    return "\n".join(rows)


def _row(name: str, trained: Trained) -> str:
    fitted, recipe = trained.fitted, trained.recipe
    losses = (fitted.first_validation, fitted.best_validation)
    told = ", ".join("-" if loss is None else f"{loss:.4f}" for loss in losses)
    return (
        f"| {name} | {trained.parameters:,} ({trained.trainable:,}) | {fitted.steps}, {fitted.best_step} | {recipe.batch} "
        f"| {recipe.learning_rate:g} | {recipe.seed} | {told} | {trained.seconds / 60:.1f} |"
    )


def _tokens(outcome: Outcome) -> str:
    rows = ["| | tokens | coarse: cross-entropy, unigram | fine |", "|---|---|---|---|"]
    rows += [
        f"| {where} | {one.tokens:,} | {one.s1_cross_entropy:.3f}, {one.s1_unigram:.3f} | {one.s2_cross_entropy:.3f}, "
        f"{one.s2_unigram:.3f} |"
        for where, one in outcome.entropy.items()
    ]
    return "\n".join(rows)


def _quality(outcome: Outcome) -> str:
    quality = outcome.quality
    moves = ", ".join(f"{name} {error:.2f}" for name, error in quality.error_in_moves.items())
    volumes = ", ".join(f"{name} {error:.2f}" for name, error in quality.error_in_stds.items())
    return (
        f"Root mean square error in units of one candle's move: {moves} (close from the coarse token alone "
        f"{quality.close_error_from_coarse:.2f}); in stds of the window: {volumes}. Codes used: "
        f"{quality.codes_used[0]:.0%} coarse, {quality.codes_used[1]:.0%} fine. {quality.bits_for_volume:.0%} of the bits "
        f"that change with the candles change with volume."
    )
