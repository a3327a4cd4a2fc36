"""Attention behind a shared prefix by the kernel of native/source/attention.cpp, on the processor.

The same arithmetic as `TorchPrefixCache`: turning, storing, both products and the softmax in one pass, in float32. Keys of
the prefix lie as the kernel reads them, and everything that it rereads is padded to whole vectors with zeros.
"""

from __future__ import annotations

from ctypes import addressof

import torch
from torch import Tensor

from services.inference.native.kernels import LANES, PANEL, AttentionCall, Kernels

from .attention import Heads, PrefixCache
from .place import Place, Span

FLOAT_BYTES = 4


class NativePrefixCache(PrefixCache):
    """Places are `Span`s: the kernel takes positions as numbers."""

    def __init__(self, heads: Heads, kernels: Kernels) -> None:
        self._heads, self._kernels = heads, kernels
        self._d_model = heads.count * heads.size
        self._padded = -(-heads.size // LANES) * LANES
        self._keys = self._values = self._suffix = torch.empty(0)
        # Filled in once for what stays the same from step to step: a step hands over a dozen of these in a millisecond.
        self._call = AttentionCall(heads=heads.count, size=heads.size)
        self._address = addressof(self._call)
        self._paths = self._capacity = 0

    def store_prefix(self, keys_values: Tensor) -> None:
        keys, values = keys_values
        groups, length, size = keys.shape
        panels = -(-length // PANEL)
        by_panel = keys.new_zeros((groups, panels * PANEL, size))
        by_panel[:, :length] = keys
        self._keys = by_panel.view(groups, panels, PANEL, size).transpose(2, 3).contiguous()
        self._values = values.new_zeros((groups, length, self._padded))
        self._values[..., :size] = values
        self._call.series, self._call.prefix = groups // self._heads.count, length
        self._call.prefix_keys, self._call.prefix_values = self._keys.data_ptr(), self._values.data_ptr()

    def reserve(self, paths: int, capacity: int) -> None:
        groups = len(self._values)
        shape = (2, groups * paths, capacity, self._padded)
        if self._suffix.shape != shape:
            self._suffix = self._values.new_zeros(shape)
        self._call.own_keys, self._call.own_values = (part.data_ptr() for part in self._suffix)
        self._call.paths, self._call.capacity = paths, capacity
        self._call.threads = torch.get_num_threads()
        self._paths, self._capacity = groups // self._heads.count * paths, capacity

    def extend(self, projected: Tensor, turns: Tensor, place: Place) -> Tensor:
        projected = projected.float()
        call, start = self._call, self._take(projected, 3, place)
        if turns.shape != (call.steps, 1, self._heads.size // 2) or not turns.is_contiguous():
            raise ValueError(f"{tuple(turns.shape)} are no turns for {call.steps} steps of {self._heads}")
        call.turns, call.queries = turns.data_ptr(), start
        call.new_keys_values = start + self._d_model * FLOAT_BYTES
        return self._attended(len(projected))

    def append(self, keys_values: Tensor, place: Place) -> None:
        keys_values = keys_values.float()
        call, start = self._call, self._take(keys_values, 2, place)
        call.turns, call.queries, call.new_keys_values = None, None, start
        self._kernels.attend(self._address)

    def attend(self, queries: Tensor, place: Place) -> Tensor:
        call, start = self._call, self._take(queries, 1, place)
        call.turns, call.queries, call.new_keys_values = None, start, None
        return self._attended(len(queries))

    def _take(self, rows: Tensor, parts: int, place: Place) -> int:
        """Check rows [paths * t, parts * d_model] for `place`, note their shape, and tell where they begin."""
        if not isinstance(place, Span):
            raise TypeError("the kernel takes spans")
        if rows.shape[1] != parts * self._d_model or len(rows) % self._paths or not rows.is_contiguous():
            raise ValueError(f"{tuple(rows.shape)} are not {parts} parts of {self._heads} for {self._paths} paths")
        steps = len(rows) // self._paths
        call = self._call
        call.first, call.steps = place.end - steps, steps
        if place.end > self._capacity:
            raise ValueError(f"there is room for {self._capacity} tokens of each path, not for {place.end}")
        call.stride = parts * self._d_model
        return rows.data_ptr()

    def _attended(self, rows: int) -> Tensor:
        out = torch.empty((rows, self._d_model))
        self._call.out = out.data_ptr()
        self._kernels.attend(self._address)
        return out
