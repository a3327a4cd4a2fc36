"""Kronos with random weights, small enough to forecast in milliseconds, in folders of the published layout."""

from __future__ import annotations

from pathlib import Path

import torch

from services.inference.model.config import KronosConfig, TokenizerConfig
from services.inference.model.kronos import Kronos
from services.inference.model.tokenizer import KronosTokenizer
from services.inference.training.checkpoint_folder import write_checkpoint

TOKENIZER = TokenizerConfig(
    d_in=6, d_model=16, n_heads=2, ff_dim=32, n_enc_layers=2, n_dec_layers=2, ffn_dropout_p=0, attn_dropout_p=0,
    resid_dropout_p=0, s1_bits=4, s2_bits=4, beta=0.05, gamma0=1.0, gamma=1.1, zeta=0.05, group_size=4,
)  # fmt: skip
MODEL = KronosConfig(
    s1_bits=4, s2_bits=4, n_layers=2, d_model=16, n_heads=4, ff_dim=32, ffn_dropout_p=0, attn_dropout_p=0,
    resid_dropout_p=0, token_dropout_p=0, learn_te=True,
)  # fmt: skip


def write_tiny_models(folder: Path, seed: int = 5) -> Path:
    """`folder` as model.local_dir, with random models under the names Kronos-small and Kronos-mini. Returns it."""
    torch.manual_seed(seed)
    for model, tokenizer in (("Kronos-small", "Kronos-Tokenizer-base"), ("Kronos-mini", "Kronos-Tokenizer-2k")):
        write_checkpoint(Kronos(MODEL), folder / model)
        write_checkpoint(KronosTokenizer(TOKENIZER), folder / tokenizer)
    return folder
