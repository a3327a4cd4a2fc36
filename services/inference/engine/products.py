"""Matrix products with weights that never change: y = x W^T + b in the form that is quickest where it runs.

On the CPU oneDNN packs the weights once into the order in which its kernels read them (float32, bfloat16). Such a product
gives each row the same last bit however many rows go through together, which plain torch products do not. Elsewhere the
product is torch's own. int8 quantises each row set as it comes (FBGEMM). Knows nothing of what is multiplied.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor
from torch.nn import functional

from .precision import Precision

_linear = torch.ops.mkldnn._linear_pointwise


class Product(ABC):
    """x [rows, in] in `Precision.activations` -> [rows, out] in the same."""

    @abstractmethod
    def __call__(self, x: Tensor) -> Tensor: ...

    @abstractmethod
    def add_to(self, residual: Tensor, x: Tensor) -> Tensor:
        """residual [rows, out] float32, plus the product, in float32; what was handed in stays as it was."""

    @abstractmethod
    def gate(self, up: Product, x: Tensor) -> Tensor:
        """silu(this product) * up's product: [rows, out]."""


def pack(weight: Tensor, bias: Tensor | None, precision: Precision) -> Product:
    """weight [out, in] and bias [out], float32, on the device where the product will run. They are copied."""
    bias = None if bias is None else bias.to(precision.activations, copy=True)
    if precision.name == "int8":
        return _Int8Product(weight, bias)
    weight = weight.to(precision.activations)
    if precision.packs_with_onednn(weight.device):
        return _PackedProduct(weight, bias)
    return _PlainProduct(weight, bias)


class _PlainProduct(Product):
    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        self._weight, self._bias = weight.clone(), bias

    def __call__(self, x: Tensor) -> Tensor:
        return functional.linear(x, self._weight, self._bias)

    def add_to(self, residual: Tensor, x: Tensor) -> Tensor:
        return residual + self(x)

    def gate(self, up: Product, x: Tensor) -> Tensor:
        return functional.silu(self(x)) * up(x)


class _PackedProduct(Product):
    """oneDNN's inner product; silu, residual and gate ride along with it instead of passing over memory again."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        self._weight = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous(), None)
        self._bias = bias

    def __call__(self, x: Tensor) -> Tensor:
        out: Tensor = _linear(x, self._weight, self._bias, "none", [], "")
        return out

    def add_to(self, residual: Tensor, x: Tensor) -> Tensor:
        if x.dtype != residual.dtype:
            return residual + self(x)
        out: Tensor = _linear.binary(x, residual, self._weight, self._bias, "add")
        return out

    def gate(self, up: Product, x: Tensor) -> Tensor:
        assert isinstance(up, _PackedProduct)  # noqa: S101 - both halves of a gate are packed alike
        gate = _linear(x, self._weight, self._bias, "swish", [], "")
        out: Tensor = _linear.binary(x, gate, up._weight, up._bias, "mul")
        return out


class _Int8Product(Product):
    """Weights in int8 with a scale per output; activations quantised at each call, with one scale for all its rows."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        scales = weight.abs().amax(dim=1).double().clamp_min(1e-12) / 127
        zero_points = torch.zeros(len(weight), dtype=torch.long)
        quantised = torch.quantize_per_channel(weight, scales, zero_points, 0, torch.qint8)
        torch.backends.quantized.engine = "fbgemm"
        self._packed = torch.ops.quantized.linear_prepack(quantised, bias)

    def __call__(self, x: Tensor) -> Tensor:
        out: Tensor = torch.ops.quantized.linear_dynamic(x, self._packed, False)
        return out

    def add_to(self, residual: Tensor, x: Tensor) -> Tensor:
        return residual + self(x)

    def gate(self, up: Product, x: Tensor) -> Tensor:
        return functional.silu(self(x), inplace=True).mul_(up(x))
