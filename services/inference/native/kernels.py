"""The compiled kernels, called on torch's tensors.

Tensors are handed over as addresses, so each call checks what the kernel could not: type, layout, size and device.
"""

from __future__ import annotations

import ctypes
import platform
from ctypes import POINTER, Structure, byref, c_double, c_float, c_int, c_int64, c_void_p
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from .build import library

FORMATS = {torch.float32: 0, torch.bfloat16: 1}
PANEL = 64  # keys of a shared prefix that lie side by side
LANES = 16  # numbers in a vector; rows that are reread are padded to whole ones


class KernelError(Exception):
    """The compiled kernels cannot be used here; says why and what to do."""


class AttentionCall(Structure):
    """What `kronos_attention` is handed: the fields of KronosAttention in source/attention.cpp."""

    _fields_ = (
        *((name, c_int64) for name in ("series", "heads", "size", "paths", "steps", "prefix", "first", "capacity")),
        ("threads", c_int64),
        *((name, c_void_p) for name in ("prefix_keys", "prefix_values", "own_keys", "own_values", "turns")),
        *((name, c_void_p) for name in ("new_keys_values", "queries")),
        *((name, c_int64) for name in ("stride", "in_format")),
        ("out", c_void_p),
        ("out_format", c_int64),
    )


class _ChoiceCall(Structure):
    """KronosChoice in source/choice.cpp."""

    _fields_ = (
        ("logits", c_void_p),
        *((name, c_int64) for name in ("format", "rows", "vocabulary")),
        ("temperature", c_double),
        ("top_k", c_int64),
        ("top_p", c_double),
        ("uniforms", c_void_p),
        ("uniforms_stride", c_int64),
        ("tokens", c_void_p),
        ("tokens_stride", c_int64),
        ("threads", c_int64),
    )


class Kernels:
    """One compiled library. All run on as many threads as torch does, and give each row the same bits however many rows
    and threads there are."""

    def __init__(self, path: Path, level: str) -> None:
        self.name = f"native ({level})"
        try:
            loaded = ctypes.CDLL(str(path))
        except OSError as error:
            raise KernelError(f"The kernels in {path.name} cannot be loaded: {error}") from error
        self._attention = loaded.kronos_attention
        self._attention.argtypes, self._attention.restype = [c_void_p], None
        self._choose = loaded.kronos_choose
        self._choose.argtypes, self._choose.restype = [POINTER(_ChoiceCall)], c_int
        self._normalise = loaded.kronos_normalise
        self._normalise.argtypes = [c_void_p, c_int64, c_int64, c_float, c_void_p, c_int64, c_int64]
        self._normalise.restype = None

    def normalise(self, x: Tensor, epsilon: float, dtype: torch.dtype) -> Tensor:
        """x float32 [rows, width] -> each row over the root of its mean square plus epsilon, in `dtype`."""
        _check(x, torch.float32)
        rows, width = x.shape
        out = torch.empty_like(x, dtype=dtype)
        threads = torch.get_num_threads()
        self._normalise(x.data_ptr(), rows, width, epsilon, out.data_ptr(), FORMATS[dtype], threads)
        return out

    def choose(self, logits: Tensor, temperature: float, top_k: int, top_p: float, uniforms: Tensor, out: Tensor) -> bool:
        """Draw a token from each row of logits [rows, vocabulary] with uniforms float64 [rows] into out int64 [rows], as
        token_choice does. Whether all logits were numbers; a row where they are not gives token 0."""
        rows, vocabulary = logits.shape
        _check(logits, logits.dtype)
        if uniforms.shape != (rows,) or uniforms.dtype != torch.float64 or out.shape != (rows,) or out.dtype != torch.int64:
            raise ValueError(f"{rows} rows need as many uniforms in float64 and tokens in int64")
        call = _ChoiceCall(
            logits.data_ptr(),
            FORMATS[logits.dtype],
            rows,
            vocabulary,
            temperature,
            top_k,
            top_p,
            uniforms.data_ptr(),
            uniforms.stride(0),
            out.data_ptr(),
            out.stride(0),
            torch.get_num_threads(),
        )
        return bool(self._choose(byref(call)))

    def attend(self, call: int) -> None:
        """The address of an AttentionCall, which engine/native_attention.py fills in."""
        self._attention(call)


@cache
def load_kernels() -> Kernels:
    """The library for this processor's best instructions. Raises KernelError where there is none."""
    level = "NEON" if platform.machine() == "aarch64" else torch.backends.cpu.get_cpu_capability()
    path = library(level)
    if not path.exists():
        raise KernelError(
            f"There are no compiled kernels for this processor ({level}). Compile them with "
            "'python -m services.inference.native', which needs a C++ compiler."
        )
    return Kernels(path, level)


def _check(tensor: Tensor, dtype: torch.dtype) -> None:
    if tensor.dtype != dtype or dtype not in FORMATS or tensor.device.type != "cpu" or not tensor.is_contiguous():
        raise ValueError(f"a kernel was handed {tensor.dtype} {tuple(tensor.shape)} on {tensor.device}, or with gaps")
