"""Attention by the kernel of native/source/attention.cpp, on the processor.

The same arithmetic as `TorchPrefixCache`: turning, storing, both products and the softmax in one pass. Keys and values lie
as the kernel reads them: in 32-bit words of one float32 or two bfloat16, padded to whole vectors with zeros. In bfloat16
queries, keys, values and the softmax's weights are rounded; what is summed stays float32.
"""

from __future__ import annotations

from ctypes import addressof
from typing import Literal

import torch
from torch import Tensor

from services.inference.native.kernels import FORMATS, LANES, PANEL, AttentionCall, Kernels

from .attention import Heads, PrefixCache
from .place import Place, Span

FLOAT_BYTES = 4


class NativePrefixCache(PrefixCache):
    """Places are `Span`s: the kernel takes positions as numbers."""

    def __init__(self, heads: Heads, kernels: Kernels, stored_in: Literal["float32", "bfloat16"] = "float32") -> None:
        self._heads, self._kernels = heads, kernels
        self._d_model = heads.count * heads.size
        self._dtype, self._in_word = (torch.bfloat16, 2) if stored_in == "bfloat16" else (torch.float32, 1)
        self._words = -(-heads.size // self._in_word)
        self._prefix_keys = self._prefix_values = self._own_keys = self._own_values = torch.empty(0)
        # Filled in once for what stays the same from step to step: a step hands over a dozen of these in a millisecond.
        self._call = AttentionCall(format=FORMATS[stored_in], heads=heads.count, size=heads.size)
        self._address = addressof(self._call)
        self._paths = self._capacity = 0

    def store_prefix(self, keys_values: Tensor) -> None:
        keys, values = keys_values
        groups, length, size = keys.shape
        panels, pairs = -(-length // PANEL), -(-length // self._in_word)
        by_panel = keys.new_zeros((groups, panels * PANEL, self._words * self._in_word), dtype=self._dtype)
        by_panel[:, :length, :size] = keys
        words = by_panel.view(torch.int32).view(groups, panels, PANEL, self._words)
        self._prefix_keys = words.transpose(2, 3).contiguous()
        padded = values.new_zeros((groups, pairs * self._in_word, _padded(size)), dtype=self._dtype)
        padded[:, :length, :size] = values
        self._prefix_values = padded.view(groups, pairs, self._in_word, _padded(size)).transpose(2, 3).contiguous()
        self._call.series, self._call.prefix = groups // self._heads.count, length
        self._call.prefix_keys, self._call.prefix_values = self._prefix_keys.data_ptr(), self._prefix_values.data_ptr()

    def attend_window(self, queries: Tensor) -> Tensor:
        call = self._call
        groups, length, size = queries.shape
        if (groups // self._heads.count, length, size) != (call.series, call.prefix, self._heads.size):
            raise ValueError(f"{tuple(queries.shape)} are not the queries of the stored window")
        rows = self._heads.merge(queries, call.series)
        call.is_window, call.paths, call.steps, call.threads = 1, 1, length, torch.get_num_threads()
        call.turns, call.queries, call.new_keys_values, call.stride = None, rows.data_ptr(), None, self._d_model
        attended = self._attended(len(rows))
        call.is_window, call.paths = 0, self._paths
        return attended

    def reserve(self, paths: int, capacity: int) -> None:
        call = self._call
        groups = call.series * self._heads.count
        shape = (groups, capacity, paths)
        if self._own_keys.shape[:3] != shape:
            self._own_keys = torch.zeros((*shape, _padded(self._words)), dtype=torch.int32)
            self._own_values = torch.zeros((*shape, _padded(self._heads.size)), dtype=self._dtype)
        call.own_keys, call.own_values = self._own_keys.data_ptr(), self._own_values.data_ptr()
        call.paths, call.capacity, call.threads = paths, capacity, torch.get_num_threads()
        self._paths, self._capacity = paths, capacity

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
        call = self._call
        if (
            rows.shape[1] != parts * self._d_model
            or len(rows) % (call.series * self._paths)
            or not rows.is_contiguous()
        ):
            raise ValueError(f"{tuple(rows.shape)} are not {parts} parts of {self._heads} for {self._paths} paths")
        steps = len(rows) // (call.series * self._paths)
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


def _padded(numbers: int) -> int:
    return -(-numbers // LANES) * LANES
