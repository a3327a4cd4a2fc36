"""Tiny random models and a random walk: real parts, small enough for a test."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import nn

from services.inference.context import Context, Overflow, prepare_context
from services.inference.engine import FLOAT32, Engine, Precision, pack
from services.inference.model.config import KronosConfig, TokenizerConfig
from services.inference.model.kronos import Kronos
from services.inference.model.tokenizer import KronosTokenizer
from services.inference.native import KernelError, Kernels, load_kernels
from services.inference.path_sampler import SampledPaths, SamplingOptions, sample_paths
from tests.conftest import skip_or_fail

HOUR_MS = 3_600_000
START_MS = 1_735_689_600_000  # 2025-01-01

TINY_TOKENIZER = TokenizerConfig(
    d_in=6,
    d_model=32,
    n_heads=2,
    ff_dim=48,
    n_enc_layers=2,
    n_dec_layers=3,
    ffn_dropout_p=0.0,
    attn_dropout_p=0.0,
    resid_dropout_p=0.0,
    s1_bits=5,
    s2_bits=4,
    beta=0.05,
    gamma0=1.0,
    gamma=1.1,
    zeta=0.05,
    group_size=3,
)
TINY_KRONOS = KronosConfig(
    s1_bits=5,
    s2_bits=4,
    n_layers=2,
    d_model=32,
    n_heads=2,
    ff_dim=64,
    ffn_dropout_p=0.2,
    attn_dropout_p=0.1,
    resid_dropout_p=0.2,
    token_dropout_p=0.1,
    learn_te=True,
)


def tiny_kronos(seed: int = 0, *, learn_te: bool = True) -> Kronos:
    torch.manual_seed(seed)
    return Kronos(replace(TINY_KRONOS, learn_te=learn_te)).eval()


def tiny_tokenizer(seed: int = 0) -> KronosTokenizer:
    torch.manual_seed(seed)
    return KronosTokenizer(TINY_TOKENIZER).eval()


def random_klines(count: int, seed: int = 0) -> np.ndarray:
    """[count, 6]: a random walk of hourly candles that obey all rules."""
    rng = np.random.default_rng(seed)
    close = 60_000 * np.exp(np.cumsum(rng.normal(0, 0.005, count)))
    open_ = np.concatenate((close[:1], close[:-1]))
    high, low = np.maximum(open_, close) * 1.001, np.minimum(open_, close) * 0.999
    volume = rng.gamma(2, 500, count)
    return np.stack((open_, high, low, close, volume, volume * close), axis=1)


def random_context(
    history: int, horizon: int, max_context: int, overflow: Overflow = "slide", *, seed: int = 0
) -> Context:
    return prepare_context(
        random_klines(history, seed),
        START_MS + HOUR_MS * np.arange(history),
        interval_ms=HOUR_MS,
        horizon=horizon,
        max_context=max_context,
        overflow=overflow,
    )


def options(paths: int = 6, *, seed: int = 7, top_k: int = 0) -> SamplingOptions:
    return SamplingOptions(num_samples=paths, temperature=1.0, top_k=top_k, top_p=0.95, seed=seed)


class Computing:
    """By which kernels tiny engines compute: a test may set it."""

    kernels: Kernels | None = None


def tiny_engine(max_context: int = 512, precision: Precision = FLOAT32) -> Engine:
    return pack(tiny_kronos(), tiny_tokenizer(), precision, max_context, Computing.kernels)


def native_kernels() -> Kernels:
    """Skips the test where none are compiled."""
    try:
        return load_kernels()
    except KernelError as error:
        skip_or_fail("kernels", str(error))
        raise


def sample(context: Context, chosen: SamplingOptions, max_context: int = 512) -> SampledPaths:
    return sample_paths(tiny_engine(max_context), context, chosen)


def write_checkpoint(folder: Path, module: Kronos | KronosTokenizer) -> Path:
    """In the published layout: config.json and model.safetensors."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(module.config.to_dict()), encoding="utf-8")
    save_tensors(folder, module)
    return folder


def save_tensors(folder: Path, module: nn.Module) -> None:
    save_file({name: tensor.contiguous() for name, tensor in module.state_dict().items()}, folder / "model.safetensors")
