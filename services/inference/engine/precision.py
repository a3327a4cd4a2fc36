"""In which numbers the products are computed: float32 (exact), bfloat16 or int8, and what `auto` means on a device.

Norms, attention, the residual stream and the tokenizer stay in float32 whatever the products are in.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch

PrecisionName = Literal["float32", "bfloat16", "int8"]


@dataclass(frozen=True)
class Precision:
    name: PrecisionName

    @property
    def activations(self) -> torch.dtype:
        """What goes into a product of torch's and comes out of it."""
        return torch.bfloat16 if self.name == "bfloat16" else torch.float32

    def has_tiles(self) -> bool:
        """Whether the processor multiplies whole tiles of such numbers (AMX), which oneDNN knows how to use."""
        return self.name == "bfloat16" and torch.cpu._is_amx_tile_supported()

    def packs_with_onednn(self, device: torch.device) -> bool:
        return device.type == "cpu" and torch.backends.mkldnn.is_available()


FLOAT32 = Precision("float32")
