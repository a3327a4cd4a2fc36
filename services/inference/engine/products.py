"""Matrix products with weights that never change: y = x W^T + b in the form that is quickest where it runs.

On a processor with AVX-512 by a kernel of our own. Elsewhere on the CPU oneDNN packs the weights once into the order in
which its kernels read them (float32, bfloat16). Both give each row the same last bit however many rows go through
together, which plain torch products do not; those are left for accelerators. Knows nothing of what is multiplied.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor
from torch.nn import functional

from services.inference.model.layers import NORM_EPSILON
from services.inference.native.kernels import Kernels

from .precision import Precision

_linear = torch.ops.mkldnn._linear_pointwise


def normalise(x: Tensor, kernels: Kernels | None) -> Tensor:
    """RMS norm without its weight, which is folded into what follows: x float32 [rows, d] -> same."""
    if kernels is not None:
        return kernels.normalise(x, NORM_EPSILON)
    return functional.rms_norm(x, x.shape[-1:], None, NORM_EPSILON)


class Product(ABC):
    """x [rows, in], in float32 or in what another product gave, -> [rows, out]."""

    @abstractmethod
    def __call__(self, x: Tensor) -> Tensor: ...

    @abstractmethod
    def of_normalised(self, x: Tensor) -> Tensor:
        """The product of x float32, normalised first."""

    @abstractmethod
    def add_to(self, residual: Tensor, x: Tensor) -> Tensor:
        """residual [rows, out] float32, plus the product, in float32; what was handed in stays as it was."""

    @abstractmethod
    def gate_normalised(self, up: Product, x: Tensor) -> Tensor:
        """silu(this product) * up's product, both of x float32, normalised first: [rows, out]."""


def pack(weight: Tensor, bias: Tensor | None, precision: Precision, kernels: Kernels | None) -> Product:
    """weight [out, in] and bias [out], float32, on the device where the product will run. They are copied."""
    if kernels is not None and precision.name in kernels.multiplies and not precision.has_tiles():
        return _NativeProduct(weight, bias, precision, kernels)
    if precision.name == "int8":
        raise ValueError("int8 is computed by compiled kernels alone, and there are none for this device")
    weight = weight.to(precision.activations)
    bias = None if bias is None else bias.to(precision.activations, copy=True)
    if precision.packs_with_onednn(weight.device):
        return _PackedProduct(weight, bias)
    return _PlainProduct(weight, bias)


class _NativeProduct(Product):
    """The kernel of native/source/linear.cpp: norm, rounding or quantising, gate and residual go along with the product.
    Rows are float32 on both sides of it; int8 has a scale for each row."""

    def __init__(self, weight: Tensor, bias: Tensor | None, precision: Precision, kernels: Kernels) -> None:
        self._kernels = kernels
        self._weights = kernels.pack(weight, bias, precision.name)

    def __call__(self, x: Tensor) -> Tensor:
        return self._kernels.multiply(x.contiguous(), self._weights)

    def of_normalised(self, x: Tensor) -> Tensor:
        return self._kernels.multiply(x, self._weights, epsilon=NORM_EPSILON)

    def add_to(self, residual: Tensor, x: Tensor) -> Tensor:
        return self._kernels.multiply(x, self._weights, residual=residual)

    def gate_normalised(self, up: Product, x: Tensor) -> Tensor:
        assert isinstance(up, _NativeProduct)  # noqa: S101 - both halves of a gate are packed alike
        return self._kernels.multiply(x, self._weights, up=up._weights, epsilon=NORM_EPSILON)


class _PlainProduct(Product):
    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        self._weight, self._bias = weight.clone(), bias

    def __call__(self, x: Tensor) -> Tensor:
        return functional.linear(x.to(self._weight.dtype), self._weight, self._bias)

    def of_normalised(self, x: Tensor) -> Tensor:
        return self(normalise(x, None))

    def add_to(self, residual: Tensor, x: Tensor) -> Tensor:
        return residual + self(x)

    def gate_normalised(self, up: Product, x: Tensor) -> Tensor:
        normalised = normalise(x, None).to(self._weight.dtype)
        return functional.silu(self(normalised)) * up(normalised)


class _PackedProduct(Product):
    """oneDNN's inner product; silu, residual and gate ride along with it instead of passing over memory again."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        self._dtype = weight.dtype
        self._weight = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous(), None)
        self._bias = bias

    def __call__(self, x: Tensor) -> Tensor:
        out: Tensor = _linear(x.to(self._dtype), self._weight, self._bias, "none", [], "")
        return out

    def of_normalised(self, x: Tensor) -> Tensor:
        return self(normalise(x, None))

    def add_to(self, residual: Tensor, x: Tensor) -> Tensor:
        if self._dtype != residual.dtype:
            return residual + self(x)
        out: Tensor = _linear.binary(x, residual, self._weight, self._bias, "add")
        return out

    def gate_normalised(self, up: Product, x: Tensor) -> Tensor:
        assert isinstance(up, _PackedProduct)  # noqa: S101 - both halves of a gate are packed alike
        normalised = normalise(x, None).to(self._dtype)
        gate = _linear(normalised, self._weight, self._bias, "swish", [], "")
        out: Tensor = _linear.binary(normalised, gate, up._weight, up._bias, "mul")
        return out
