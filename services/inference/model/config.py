"""The two configurations of a Kronos checkpoint, in the layout of its published `config.json`.

Knows which keys a published file has and of which kind they are. Knows nothing of files, weights or torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Self


class ModelConfigError(ValueError):
    """A configuration lacks a key, or holds a value that no such model can have."""


@dataclass(frozen=True)
class _PublishedConfig:
    """Reading and writing, shared by both configurations. Keys that a published file has beyond ours are ignored."""

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Raises ModelConfigError, which names the key, the value found and what is allowed."""
        read: dict[str, Any] = {}
        for field in fields(cls):
            if field.name not in values:
                raise ModelConfigError(f"the key '{field.name}' is missing")
            read[field.name] = _checked(field.name, str(field.type), values[field.name])
        return cls(**read)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class TokenizerConfig(_PublishedConfig):
    """As in the published ones, there are n_enc_layers - 1 encoder blocks and n_dec_layers - 1 decoder blocks."""

    d_in: int
    d_model: int
    n_heads: int
    ff_dim: int
    n_enc_layers: int
    n_dec_layers: int
    ffn_dropout_p: float
    attn_dropout_p: float
    resid_dropout_p: float
    s1_bits: int
    s2_bits: int
    beta: float
    gamma0: float
    gamma: float
    zeta: float
    group_size: int

    def __post_init__(self) -> None:
        _check_heads(self.d_model, self.n_heads)
        _check_bits(self.s1_bits, self.s2_bits)
        if self.codebook_bits % self.group_size:
            raise ModelConfigError(
                f"group_size is {self.group_size}, but it must divide the {self.codebook_bits} bits of both tokens"
            )

    @property
    def codebook_bits(self) -> int:
        return self.s1_bits + self.s2_bits


@dataclass(frozen=True)
class KronosConfig(_PublishedConfig):
    """The decoder-only model over pairs of a coarse (s1) and a fine (s2) token."""

    s1_bits: int
    s2_bits: int
    n_layers: int
    d_model: int
    n_heads: int
    ff_dim: int
    ffn_dropout_p: float
    attn_dropout_p: float
    resid_dropout_p: float
    token_dropout_p: float
    learn_te: bool

    def __post_init__(self) -> None:
        _check_heads(self.d_model, self.n_heads)
        _check_heads(self.d_model, DEPENDENCY_HEADS)
        _check_bits(self.s1_bits, self.s2_bits)

    @property
    def s1_vocabulary(self) -> int:
        return 1 << self.s1_bits

    @property
    def s2_vocabulary(self) -> int:
        return 1 << self.s2_bits


DEPENDENCY_HEADS = 4  # the published configurations do not carry this number; every published model has it


def _checked(name: str, kind: str, value: Any) -> Any:
    """The value as `kind`; counts are at least 1, dropout probabilities lie in [0, 1)."""
    if kind == "bool":
        if not isinstance(value, bool):
            raise ModelConfigError(f"'{name}' is {value!r}, but it must be true or false")
        return value
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ModelConfigError(f"'{name}' is {value!r}, but it must be a number")
    if kind == "int":
        if value != int(value) or value < 1:
            raise ModelConfigError(f"'{name}' is {value!r}, but it must be a whole number of at least 1")
        return int(value)
    if name.endswith("_dropout_p") and not 0.0 <= value < 1.0:
        raise ModelConfigError(f"'{name}' is {value!r}, but a dropout probability lies in [0, 1)")
    return float(value)


def _check_heads(d_model: int, n_heads: int) -> None:
    if d_model % n_heads or (d_model // n_heads) % 2:
        raise ModelConfigError(f"d_model {d_model} must split into {n_heads} heads of an even size (rotary embedding)")


def _check_bits(s1_bits: int, s2_bits: int) -> None:
    if max(s1_bits, s2_bits) > MOST_BITS:
        raise ModelConfigError(f"s1_bits {s1_bits} and s2_bits {s2_bits} may be at most {MOST_BITS} each")


MOST_BITS = 20  # a vocabulary of a million: far beyond any checkpoint, and a broken file cannot ask for terabytes
