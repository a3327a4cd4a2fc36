"""Models of the published sizes with random weights (speed does not depend on what the weights are), and klines to read."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from services.inference.context import Context, prepare_context
from services.inference.model.config import KronosConfig, TokenizerConfig
from services.inference.model.kronos import Kronos
from services.inference.model.tokenizer import KronosTokenizer

HOUR_MS = 3_600_000
START_MS = 1_735_689_600_000  # 2025-01-01
_BITS = {"s1_bits": 10, "s2_bits": 10}
_DROPOUTS = {"ffn_dropout_p": 0.25, "attn_dropout_p": 0.1, "resid_dropout_p": 0.25, "token_dropout_p": 0.1}
TOKENIZER = TokenizerConfig(
    **_BITS,
    d_in=6,
    d_model=256,
    n_heads=4,
    ff_dim=512,
    n_enc_layers=4,
    n_dec_layers=4,
    ffn_dropout_p=0.0,
    attn_dropout_p=0.0,
    resid_dropout_p=0.0,
    beta=0.05,
    gamma0=1.0,
    gamma=1.1,
    zeta=0.05,
    group_size=4,
)


@dataclass(frozen=True)
class Size:
    config: KronosConfig
    max_context: int


def _size(layers: int, d_model: int, heads: int, ff_dim: int, max_context: int) -> Size:
    shape = {"n_layers": layers, "d_model": d_model, "n_heads": heads, "ff_dim": ff_dim, "learn_te": True}
    return Size(KronosConfig(**_BITS, **_DROPOUTS, **shape), max_context)


SIZES = {
    "Kronos-mini": _size(4, 256, 4, 512, 2048),
    "Kronos-small": _size(8, 512, 8, 1024, 512),
    "Kronos-base": _size(12, 832, 16, 2048, 512),
}


def random_modules(name: str, seed: int = 0) -> tuple[Kronos, KronosTokenizer]:
    """The same weights for the same seed."""
    torch.manual_seed(seed)
    return Kronos(SIZES[name].config).eval(), KronosTokenizer(TOKENIZER).eval()


def random_walk_klines(count: int, seed: int = 0) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Open times [count] in UTC ms and consistent hourly candles [count, 6]."""
    rng = np.random.default_rng(seed)
    close = 60_000 * np.exp(np.cumsum(rng.normal(0, 0.005, count)))
    opened = np.concatenate((close[:1], close[:-1]))
    high, low = np.maximum(opened, close) * 1.001, np.minimum(opened, close) * 0.999
    volume = rng.gamma(2, 500, count)
    times = START_MS + HOUR_MS * np.arange(count, dtype=np.int64)
    return times, np.stack((opened, high, low, close, volume, volume * close), axis=1)


def random_walk(history: int, horizon: int, max_context: int, seed: int = 0) -> Context:
    """A random walk as the model reads it."""
    times, klines = random_walk_klines(history, seed)
    return prepare_context(
        klines, times, interval_ms=HOUR_MS, horizon=horizon, max_context=max_context, overflow="trim"
    )
