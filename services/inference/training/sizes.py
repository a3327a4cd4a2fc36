"""The configurations of Kronos-nano, the small checkpoint that comes with the project.

Its tokens have 8 + 8 bits; tokenizer and model together are small enough to lie beside the code.
"""

from __future__ import annotations

from services.inference.model.config import KronosConfig, TokenizerConfig

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
    s1_bits=8,
    s2_bits=8,
    beta=0.05,
    gamma0=1.0,
    gamma=1.1,
    # At 0.05 the entropy terms vanish beside the reconstruction and half of the codes stay unused (docs/training.md).
    zeta=10.0,
    group_size=8,
)

NANO_MODEL = KronosConfig(
    s1_bits=8,
    s2_bits=8,
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
