"""The model as it is run: the same arithmetic as `model/`, each piece done once, in the form that the processor likes best.

`model/` is what is loaded, trained and checked; an engine is packed from it and cannot be trained. Imports torch, `model/`
and `native/` alone.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Any

import torch

from services.inference.model.kronos import Kronos
from services.inference.model.tokenizer import KronosTokenizer
from services.inference.native.kernels import Kernels

from .kronos import PackedKronos
from .precision import FLOAT32, Precision
from .tokenizer import PackedTokenizer

__all__ = ["FLOAT32", "Engine", "Precision", "pack"]


@dataclass(frozen=True)
class Engine:
    """A model and its tokenizer, packed for one device."""

    kronos: PackedKronos
    tokenizer: PackedTokenizer
    device: torch.device
    precision: Precision
    max_context: int  # tokens that the model reads at once
    records_steps: bool  # whether steps are recorded once for a shape of forecast and replayed (CUDA graphs)
    loops: dict[Hashable, Any] = field(default_factory=dict, compare=False)  # that drew forecasts, with their caches

    @property
    def kernels_name(self) -> str:
        return self.kronos.kernels.name if self.kronos.kernels else "torch"


def pack(
    kronos: Kronos, tokenizer: KronosTokenizer, precision: Precision, max_context: int, kernels: Kernels | None = None
) -> Engine:
    """Both modules in float32 on one device; nothing of them is kept, so their memory can go. `kernels` do what lies
    between the products, on a processor; None: torch does.
    """
    packed = PackedKronos(kronos, precision, kernels, max_context)
    return Engine(
        packed,
        PackedTokenizer(tokenizer, kernels, max_context),
        packed.device,
        precision,
        max_context,
        records_steps=packed.device.type == "cuda",
    )
