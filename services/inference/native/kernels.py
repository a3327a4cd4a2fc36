"""The compiled kernels, called on torch's tensors.

Tensors are handed over as addresses, so each call checks what the kernel could not: type, layout, size and device.
"""

from __future__ import annotations

import ctypes
import platform
from ctypes import POINTER, Structure, addressof, byref, c_double, c_float, c_int, c_int64, c_void_p
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from .build import library

NumberName = Literal["float32", "bfloat16", "int8"]
FORMATS: dict[NumberName, int] = {"float32": 0, "bfloat16": 1, "int8": 2}  # Format in source/words.h
PANEL = 64  # keys of a shared prefix that lie side by side
LANES = 16  # numbers in a vector; rows that are reread are padded to whole ones


class KernelError(Exception):
    """The compiled kernels cannot be used here; says why and what to do."""


class AttentionCall(Structure):
    """What `kronos_attention` is handed: the fields of KronosAttention in source/attention.cpp."""

    _fields_ = (
        *((name, c_int64) for name in ("format", "series", "heads", "size", "paths", "steps")),
        *((name, c_int64) for name in ("prefix", "is_window", "first", "capacity", "threads")),
        *((name, c_void_p) for name in ("prefix_keys", "prefix_values", "own_keys", "own_values", "turns")),
        *((name, c_void_p) for name in ("new_keys_values", "queries")),
        ("stride", c_int64),
        ("out", c_void_p),
    )


class _ChoiceCall(Structure):
    """KronosChoice in source/choice.cpp."""

    _fields_ = (
        ("logits", c_void_p),
        *((name, c_int64) for name in ("rows", "vocabulary")),
        ("temperature", c_double),
        ("top_k", c_int64),
        ("top_p", c_double),
        ("uniforms", c_void_p),
        ("uniforms_stride", c_int64),
        ("tokens", c_void_p),
        ("tokens_stride", c_int64),
        ("threads", c_int64),
    )


class _Weights(Structure):
    """KronosWeights in source/linear.cpp."""

    _fields_ = (
        *((name, c_int64) for name in ("format", "inputs", "outputs")),
        *((name, c_void_p) for name in ("words", "scales", "bias")),
    )


class _LinearCall(Structure):
    """KronosLinear in source/linear.cpp."""

    _fields_ = (
        *((name, c_void_p) for name in ("weights", "up", "x")),
        ("rows", c_int64),
        ("epsilon", c_float),
        *((name, c_void_p) for name in ("residual", "out")),
        ("threads", c_int64),
    )


@dataclass(frozen=True)
class PackedWeights:
    """Weights as the kernel reads them, and the memory that they lie in."""

    outputs: int
    inputs: int
    address: int
    kept: tuple[object, ...]


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
        self._normalise.argtypes = [c_void_p, c_int64, c_int64, c_float, c_void_p, c_int64]
        self._normalise.restype = None
        loaded.kronos_multiplies.argtypes, loaded.kronos_multiplies.restype = [c_int64], c_int
        # In which numbers there are products with weights on this processor.
        self.multiplies = frozenset(name for name, code in FORMATS.items() if loaded.kronos_multiplies(code))
        if self.multiplies:
            self._linear = loaded.kronos_linear
            self._linear.argtypes, self._linear.restype = [POINTER(_LinearCall)], None

    def normalise(self, x: Tensor, epsilon: float) -> Tensor:
        """x [rows, width] -> each row over the root of its mean square plus epsilon."""
        _check(x)
        out = torch.empty_like(x)
        self._normalise(x.data_ptr(), *x.shape, epsilon, out.data_ptr(), torch.get_num_threads())
        return out

    def pack(self, weight: Tensor, bias: Tensor | None, name: NumberName) -> PackedWeights:
        """weight [outputs, inputs] and bias [outputs], copied into the order in which `multiply` reads them: strips of
        sixteen outputs, and of each the inputs that go into one 32-bit word beside each other.

        int8: a scale for each output, so that its largest weight is 127.
        """
        outputs, inputs = weight.shape
        scales = weight.new_ones(outputs)
        numbers, in_word, padding = weight, 1, 0
        if name == "bfloat16":
            numbers, in_word = weight.to(torch.bfloat16), 2
        elif name == "int8":
            scales = weight.abs().amax(dim=1).clamp_min(torch.finfo(torch.float32).tiny) / 127
            numbers, in_word, padding = (weight / scales[:, None]).round().add(128).to(torch.uint8), 4, 128
        strips, words = -(-outputs // LANES), -(-inputs // in_word)
        padded = numbers.new_full((strips * LANES, words * in_word), padding)
        padded[:outputs, :inputs] = numbers
        by_strip = padded.view(strips, LANES, words, in_word).transpose(1, 2)
        ordered = _at_a_cache_line(by_strip)
        vectors = weight.new_zeros((2, strips * LANES))
        vectors[0, :outputs] = scales
        if bias is not None:
            vectors[1, :outputs] = bias
        described = _Weights(
            FORMATS[name], inputs, outputs, ordered.data_ptr(), vectors[0].data_ptr(), vectors[1].data_ptr()
        )
        return PackedWeights(outputs, inputs, addressof(described), (described, ordered, vectors))

    def multiply(
        self,
        x: Tensor,
        weights: PackedWeights,
        *,
        up: PackedWeights | None = None,
        epsilon: float = 0.0,
        residual: Tensor | None = None,
    ) -> Tensor:
        """x [rows, inputs] -> [rows, outputs]: x W^T + b; with `up`, silu of that times x's product with `up`; with
        `epsilon` above 0 of x normalised; with `residual` [rows, outputs], that plus the product."""
        _check(x)
        rows, inputs = x.shape
        if inputs != weights.inputs or (up is not None and (up.inputs, up.outputs) != (inputs, weights.outputs)):
            raise ValueError(f"rows of {inputs} numbers do not go with these weights")
        out = x.new_empty((rows, weights.outputs))
        if residual is not None:
            _check(residual)
            if residual.shape != out.shape:
                raise ValueError(f"{tuple(residual.shape)} cannot be added to {tuple(out.shape)}")
        self._linear(
            byref(
                _LinearCall(
                    weights.address,
                    None if up is None else up.address,
                    x.data_ptr(),
                    rows,
                    epsilon,
                    None if residual is None else residual.data_ptr(),
                    out.data_ptr(),
                    torch.get_num_threads(),
                )
            )
        )
        return out

    def choose(
        self, logits: Tensor, temperature: float, top_k: int, top_p: float, uniforms: Tensor, out: Tensor
    ) -> bool:
        """Draw a token from each row of logits [rows, vocabulary] with uniforms float64 [rows] into out int64 [rows], as
        token_choice does. Whether all logits were numbers; a row where they are not gives token 0."""
        rows, vocabulary = logits.shape
        _check(logits)
        if (
            uniforms.shape != (rows,)
            or uniforms.dtype != torch.float64
            or out.shape != (rows,)
            or out.dtype != torch.int64
        ):
            raise ValueError(f"{rows} rows need as many uniforms in float64 and tokens in int64")
        call = _ChoiceCall(
            logits.data_ptr(),
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


def _check(tensor: Tensor) -> None:
    if tensor.dtype != torch.float32 or tensor.device.type != "cpu" or not tensor.is_contiguous():
        raise ValueError(f"a kernel was handed {tensor.dtype} {tuple(tensor.shape)} on {tensor.device}, or with gaps")


def _at_a_cache_line(tensor: Tensor) -> Tensor:
    """A copy without gaps that begins at a multiple of 64 bytes."""
    size = tensor.element_size()
    memory = tensor.new_empty(tensor.numel() + 64 // size)
    first = -memory.data_ptr() % 64 // size
    return memory[first : first + tensor.numel()].view(tensor.shape).copy_(tensor)
