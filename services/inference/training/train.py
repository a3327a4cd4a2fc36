"""The story of a training: klines -> windows -> a tokenizer -> its tokens -> a model -> two folders in the published layout.

`train` begins with random weights, `fine_tune` with those of a checkpoint. Both go on where an interrupted run with the same
options stood. Knows nothing of command lines; where klines come from is `kline_sources`' part.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import torch

from services.inference.checkpoint_card import CardSampling
from services.inference.model.config import KronosConfig, TokenizerConfig
from services.inference.model.kronos import FixedEmbedding, Kronos
from services.inference.model.tokenizer import KronosTokenizer
from services.inference.training.checkpoint_folder import write_checkpoint
from services.inference.training.fit_model import VALIDATION_WINDOWS, fit_model
from services.inference.training.fit_tokenizer import fit_tokenizer
from services.inference.training.low_rank import add_low_rank, merge_low_rank
from services.inference.training.optimisation import SAVE_EVERY_S, Fitted, Report
from services.inference.training.recipe import Recipe
from services.inference.training.time_split import TimeSplit
from services.inference.training.token_entropy import TokenEntropy, token_entropy
from services.inference.training.tokenizer_quality import TokenizerQuality, tokenizer_quality
from services.inference.training.training_log import LOG_FILE, TrainingLog, both
from services.inference.weights import WEIGHTS_FILE, load_kronos, load_tokenizer, sha256_of

STATE = "state"

AnyModule = TypeVar("AnyModule", bound=torch.nn.Module)


@dataclass(frozen=True, eq=False)
class Setting:
    """What a run learns from, on what machine, and where its checkpoint goes.

    `history` is the range of lengths that windows are normalised by; `known` candles are what validation knows.
    """

    split: TimeSplit
    history: tuple[int, int]
    known: int
    out: Path
    model_name: str
    tokenizer_name: str
    sampling: CardSampling  # for the card: what suits it
    seen_until_ms: int  # the first moment that the checkpoint begun with had not seen; 0 for a new one
    device: torch.device
    compiled: bool = False
    save_every_s: float = SAVE_EVERY_S


@dataclass(frozen=True, eq=False)
class Trained:
    """One module's training, for its card."""

    fitted: Fitted
    recipe: Recipe
    parameters: int
    trainable: int
    seconds: float


@dataclass(frozen=True, eq=False)
class Outcome:
    """What came out; a part that was left as it was is None."""

    tokenizer: Trained | None
    model: Trained
    quality: TokenizerQuality
    entropy: dict[str, TokenEntropy]


Tell = Callable[[str], Report]  # a name of what is being trained -> who hears how far it is


def train(
    setting: Setting,
    tokenizer_config: TokenizerConfig,
    model_config: KronosConfig,
    tokenizer_recipe: Recipe,
    model_recipe: Recipe,
    tell: Tell,
) -> Outcome:
    """A new tokenizer, then a new model on its tokens. Raises CheckpointError."""
    torch.manual_seed(tokenizer_recipe.seed)
    fitted_tokenizer = _fit_tokenizer(KronosTokenizer(tokenizer_config), setting, tokenizer_recipe, tell)
    tokenizer = load_tokenizer(setting.out / setting.tokenizer_name).to(setting.device)
    torch.manual_seed(model_recipe.seed)
    fitted_model = _fit_model(Kronos(model_config), tokenizer, setting, model_recipe, tell, rank=0)
    return _outcome(fitted_tokenizer, fitted_model, tokenizer, setting)


def fine_tune(
    setting: Setting,
    model_folder: Path,
    tokenizer_folder: Path,
    tokenizer_recipe: Recipe | None,
    model_recipe: Recipe,
    tell: Tell,
    *,
    rank: int = 0,
) -> Outcome:
    """The checkpoint in these folders, trained on. Without a recipe of its own the tokenizer stays as it is; `rank` above 0
    trains low-rank additions to the model alone. Raises CheckpointError.
    """
    tokenizer = load_tokenizer(tokenizer_folder)
    fitted_tokenizer = None
    if tokenizer_recipe:
        fitted_tokenizer = _fit_tokenizer(tokenizer, setting, tokenizer_recipe, tell)
        tokenizer = load_tokenizer(setting.out / setting.tokenizer_name)
    else:
        write_checkpoint(tokenizer, setting.out / setting.tokenizer_name)
    tokenizer = tokenizer.to(setting.device)
    torch.manual_seed(model_recipe.seed)
    model = load_kronos(model_folder)
    fitted_model = _fit_model(model, tokenizer, setting, model_recipe, tell, rank=rank)
    return _outcome(fitted_tokenizer, fitted_model, tokenizer, setting)


def _outcome(
    fitted_tokenizer: Trained | None, fitted_model: Trained, tokenizer: KronosTokenizer, setting: Setting
) -> Outcome:
    """With what both do on the validation windows."""
    model, windows = load_kronos(setting.out / setting.model_name).to(setting.device), setting.split.validated
    return Outcome(
        fitted_tokenizer,
        fitted_model,
        tokenizer_quality(tokenizer, windows, setting.known),
        token_entropy(model, tokenizer, windows, windows=VALIDATION_WINDOWS, history=setting.known),
    )


def _fit_tokenizer(tokenizer: KronosTokenizer, setting: Setting, recipe: Recipe, tell: Tell) -> Trained:
    tokenizer = _to_be_trained(tokenizer).to(setting.device)
    folder, started = setting.out / setting.tokenizer_name, time.monotonic()
    fitted = fit_tokenizer(
        tokenizer,
        setting.split.learned,
        setting.history,
        _with_all_given(recipe, setting, tokenizer.config.to_dict()),
        setting.out / STATE / f"{setting.tokenizer_name}.safetensors",
        both(tell("tokenizer"), TrainingLog(folder / LOG_FILE).report),
        validated=setting.split.validated,
        validated_history=setting.known,
        compiled=setting.compiled,
        save_every_s=setting.save_every_s,
    )
    write_checkpoint(tokenizer.cpu(), folder)
    count = sum(parameter.numel() for parameter in tokenizer.parameters())
    return Trained(fitted, recipe, count, count, time.monotonic() - started)


def _fit_model(
    model: Kronos, tokenizer: KronosTokenizer, setting: Setting, recipe: Recipe, tell: Tell, rank: int
) -> Trained:
    model = _to_be_trained(model).to(setting.device)
    count = sum(parameter.numel() for parameter in model.parameters())
    trainable = add_low_rank(model, rank) if rank else count
    folder, started = setting.out / setting.model_name, time.monotonic()
    fitted = fit_model(
        model,
        tokenizer,
        setting.split.learned,
        setting.history,
        _with_all_given(recipe, setting, model.config.to_dict(), tokenizer=_sha256(setting, setting.tokenizer_name)),
        setting.out / STATE / f"{setting.model_name}.safetensors",
        both(tell("model"), TrainingLog(folder / LOG_FILE).report),
        validated=setting.split.validated,
        validated_history=setting.known,
        compiled=setting.compiled,
        save_every_s=setting.save_every_s,
    )
    if rank:
        merge_low_rank(model)
    write_checkpoint(model.cpu(), folder)
    return Trained(fitted, recipe, count, trainable, time.monotonic() - started)


def _with_all_given(recipe: Recipe, setting: Setting, config: dict[str, Any], tokenizer: str = "") -> Recipe:
    """The recipe with a name for all that decides the result beside it, so that no run goes on under other conditions."""
    named = json.dumps([config, setting.history, setting.known, tokenizer], sort_keys=True)
    return replace(recipe, given=f"{recipe.given} rest {hashlib.sha256(named.encode()).hexdigest()[:16]}".strip())


def _sha256(setting: Setting, name: str) -> str:
    return sha256_of(setting.out / name / WEIGHTS_FILE)


def _to_be_trained(module: AnyModule) -> AnyModule:
    """With tensors of its own, since those of a loaded checkpoint are a file's, and gradients for all that learns."""
    with torch.no_grad():
        for tensor in (*module.parameters(), *module.buffers()):
            tensor.data = tensor.data.clone()
    module.requires_grad_(True)
    for part in module.modules():
        if isinstance(part, FixedEmbedding):
            part.requires_grad_(False)
    return module
