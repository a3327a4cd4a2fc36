"""`model.dtype` -> the precision that a device computes in: what it can do, and what `auto` chooses on it."""

from __future__ import annotations

import torch

from services.inference.engine import Precision
from services.inference.engine.precision import PrecisionName
from shared.errors import SettingsError
from shared.settings import Dtype


def choose_precision(dtype: Dtype, device: torch.device) -> Precision:
    """`auto` takes bfloat16 where the device has instructions for it, else float32. int8 is for those who name it: one
    scale for the activations of all rows makes a path hang on its neighbours, and it has not been seen with published
    weights yet (docs/performance.md). Raises SettingsError where a device lacks what a dtype needs.
    """
    available = precisions_of(device)
    if dtype == "auto":
        return Precision("bfloat16" if "bfloat16" in available else "float32")
    if dtype not in available:
        raise SettingsError(
            f"model.dtype is {dtype!r}, which this {_described(device)} has no instructions for; it has "
            f"{', '.join(available)}: choose one of these or auto.",
            field="model.dtype",
        )
    return Precision(dtype)


def precisions_of(device: torch.device) -> list[PrecisionName]:
    """The slowest and most exact first."""
    available: list[PrecisionName] = ["float32"]
    if device.type == "cuda" or (device.type == "cpu" and _cpu_multiplies_bfloat16()):
        available.append("bfloat16")
    if device.type == "cpu" and _cpu_multiplies_int8():
        available.append("int8")
    return available


def _cpu_multiplies_bfloat16() -> bool:
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def _cpu_multiplies_int8() -> bool:
    return torch.cpu._is_vnni_supported() and "fbgemm" in torch.backends.quantized.supported_engines


def _described(device: torch.device) -> str:
    return "processor" if device.type == "cpu" else f"device ({device})"
