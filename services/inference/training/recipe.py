"""How a fit is run: plain numbers, which are stored with its state."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Recipe:
    """How a fit is run. Two runs with the same recipe on the same klines give the same weights on the same machine.

    `given` names all else that a run was given, its klines and first weights, so that none goes on with other ones. Each
    `validate_every` steps the validation loss is taken, where there is one; `patience` times in a row without a better
    one end the run. 0 for never.
    """

    steps: int
    batch: int
    learning_rate: float
    seed: int
    bfloat16: bool = False
    weight_decay: float = 0.01
    clip_norm: float = 1.0
    validate_every: int = 0
    patience: int = 0
    mirrored: float = 0.0  # share of the windows
    muon: bool = False  # for the matrices of the blocks
    given: str = ""
