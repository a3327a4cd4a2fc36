"""`model.dtype` and `model.kernels` -> what a device computes with: what it can do, and what `auto` chooses on it."""

from __future__ import annotations

import structlog
import torch

from services.inference.engine import Precision
from services.inference.engine.precision import PrecisionName
from services.inference.native import KernelError, Kernels, load_kernels
from shared.errors import SettingsError
from shared.settings import Dtype, KernelChoice

log = structlog.get_logger()


def choose_kernels(choice: KernelChoice, device: torch.device) -> Kernels | None:
    """The compiled kernels, or None for torch's: `auto` takes compiled ones where there are any for this processor, and
    says where there are none. Raises SettingsError where `native` is demanded in vain.
    """
    if choice == "torch" or (choice == "auto" and device.type != "cpu"):
        return None
    if device.type != "cpu":
        raise SettingsError(
            f"model.kernels is 'native', which are kernels for a processor, but model.device is {str(device)!r}; choose "
            "auto.",
            field="model.kernels",
        )
    try:
        return load_kernels()
    except KernelError as error:
        if choice == "native":
            raise SettingsError(f"model.kernels is 'native'. {error}", field="model.kernels") from error
        log.warning("kernels_missing", reason=str(error), effect="torch does their work, more slowly")
        return None


def has_kernels(choice: KernelChoice, device: torch.device) -> bool:
    """Whether `choose_kernels` would give compiled ones, without a word."""
    if choice == "torch" or device.type != "cpu":
        return False
    try:
        load_kernels()
    except KernelError:
        return False
    return True


def choose_precision(dtype: Dtype, device: torch.device, kernels: Kernels | None) -> Precision:
    """`auto` takes bfloat16 where the device has instructions for it, else float32. int8 is for those who name it: it has
    not been seen with published weights yet (docs/performance.md). Raises SettingsError where a device lacks what a dtype
    needs.
    """
    available = precisions_of(device, kernels)
    if dtype == "auto":
        return Precision("bfloat16" if "bfloat16" in available else "float32")
    if dtype not in available:
        compiled = " (int8 needs compiled kernels too: model.kernels)" if dtype == "int8" and kernels is None else ""
        raise SettingsError(
            f"model.dtype is {dtype!r}, which this {_described(device)} has no instructions for{compiled}; it has "
            f"{', '.join(available)}: choose one of these or auto.",
            field="model.dtype",
        )
    return Precision(dtype)


def precisions_of(device: torch.device, kernels: Kernels | None) -> list[PrecisionName]:
    """The slowest and most exact first."""
    available: list[PrecisionName] = ["float32"]
    if device.type == "cuda" or (device.type == "cpu" and _cpu_multiplies_bfloat16()):
        available.append("bfloat16")
    if device.type == "cpu" and kernels is not None and "int8" in kernels.multiplies:
        available.append("int8")
    return available


def _cpu_multiplies_bfloat16() -> bool:
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def _described(device: torch.device) -> str:
    return "processor" if device.type == "cpu" else f"device ({device})"
