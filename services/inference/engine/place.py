"""Where new tokens go in the paths' own part of a cache, and what of it they see.

Two ways that give the same numbers. `Span` slices: each step sees just what is there, which is least work. `Slot` holds
its position in a tensor and masks what is not there yet: every step is the same sequence of kernels on the same memory,
which is what a CUDA graph needs. `stored` is [2, all paths, capacity, size] throughout: keys and values.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor


class Place(Protocol):
    def write(self, stored: Tensor, new: Tensor) -> None:
        """Put new [2, all paths, t, size] into `stored`."""

    def visible(self, stored: Tensor) -> Tensor:
        """The part of `stored` that any of the new tokens may see: [2, all paths, visible, size]."""

    def hide(self, scores: Tensor) -> None:
        """In scores [all paths, t, visible], in place: -inf where a key comes after its query."""

    def rows_of(self, table: Tensor, behind: int) -> Tensor:
        """The rows [t, ...] of a table by position, for the new tokens behind a prefix of `behind` positions."""


class Span:
    """`count` new tokens of each path behind `first` that it has already."""

    def __init__(self, first: int, count: int) -> None:
        self.first, self.end = first, first + count

    def write(self, stored: Tensor, new: Tensor) -> None:
        stored[:, :, self.first : self.end] = new

    def visible(self, stored: Tensor) -> Tensor:
        return stored[:, :, : self.end]

    def hide(self, scores: Tensor) -> None:
        t, visible = scores.shape[1:]
        if t > 1:
            later = torch.ones((t, visible), dtype=torch.bool, device=scores.device).triu(1 + visible - t)
            scores.masked_fill_(later, float("-inf"))

    def rows_of(self, table: Tensor, behind: int) -> Tensor:
        return table[behind + self.first : behind + self.end]


class Slot:
    """One new token of each path, at a position int64 [1] that lives on the device and is moved on there."""

    def __init__(self, capacity: int, device: torch.device) -> None:
        self.position = torch.zeros(1, dtype=torch.int64, device=device)
        self._places = torch.arange(capacity, device=device)

    def write(self, stored: Tensor, new: Tensor) -> None:
        stored.index_copy_(2, self.position, new)

    def visible(self, stored: Tensor) -> Tensor:
        return stored

    def hide(self, scores: Tensor) -> None:
        scores.masked_fill_(self._places > self.position, float("-inf"))

    def rows_of(self, table: Tensor, behind: int) -> Tensor:
        return table.index_select(0, self.position + behind)
