"""The configurations of Kronos-nano, the small checkpoint that comes with the project.

Its tokens have 10 + 10 bits; tokenizer and model together are small enough to lie beside the code.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from services.inference.model.config import KronosConfig, ModelConfigError, TokenizerConfig
from shared.errors import CheckpointError

MODEL_NAME = "Kronos-nano"
TOKENIZER_NAME = "Kronos-Tokenizer-nano"

NANO_TOKENIZER = TokenizerConfig(
    d_in=6,
    d_model=128,
    n_heads=4,
    ff_dim=256,
    n_enc_layers=3,
    n_dec_layers=3,
    ffn_dropout_p=0.0,
    attn_dropout_p=0.0,
    resid_dropout_p=0.0,
    s1_bits=10,
    s2_bits=10,
    beta=0.05,
    gamma0=1.0,
    gamma=1.1,
    # At 0.05 the entropy terms vanish beside the reconstruction and half of the codes stay unused (docs/training.md).
    zeta=10.0,
    group_size=10,
)

NANO_MODEL = KronosConfig(
    s1_bits=10,
    s2_bits=10,
    n_layers=4,
    d_model=128,
    n_heads=4,
    ff_dim=256,
    ffn_dropout_p=0.0,
    attn_dropout_p=0.0,
    resid_dropout_p=0.0,
    token_dropout_p=0.0,
    learn_te=True,
)


def read_configs(tokenizer: Path | None, model: Path | None) -> tuple[TokenizerConfig, KronosConfig]:
    """Of files in the published layout, and those of nano where none is named. Raises CheckpointError."""
    try:
        return (
            TokenizerConfig.from_dict(_read(tokenizer)) if tokenizer else NANO_TOKENIZER,
            KronosConfig.from_dict(_read(model)) if model else NANO_MODEL,
        )
    except ModelConfigError as error:
        raise CheckpointError(f"A configuration cannot be used: {error}.") from None


def _read(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"'{file}' cannot be read as a config.json: {error}.") from None
    if not isinstance(found, dict):
        raise CheckpointError(f"'{file}' must hold one JSON object.")
    return found
