"""Attention of paths that share one prefix: two products, and one softmax over both.

All paths of a series start from one history. Its keys and values are stored once, without a row per path; each path adds
its own. Scores against the prefix are one product per head for all paths at once, since the prefix is the same for all;
then each path attends to its own few. Knows shapes; does not know how tokens are drawn.

Throughout, `groups` is series * heads: each head of each series on its own, with the series' paths behind it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from .place import Place


@dataclass(frozen=True)
class Heads:
    """How a row of d_model numbers splits."""

    count: int
    size: int

    def split(self, x: Tensor, series: int) -> Tensor:
        """[series * rows, parts * d_model] -> contiguous [parts, groups, rows, size]."""
        rows = len(x) // series
        parts = x.view(series, rows, -1, self.count, self.size).permute(2, 0, 3, 1, 4)
        return parts.contiguous().view(parts.shape[0], series * self.count, rows, self.size)

    def merge(self, x: Tensor, series: int) -> Tensor:
        """[groups, rows, size] -> [series * rows, d_model]."""
        rows = x.shape[1]
        by_row: Tensor = x.unflatten(0, (series, self.count)).transpose(1, 2)
        return by_row.reshape(series * rows, self.count * self.size)

    def split_turned(self, projected: Tensor, turns: Tensor, series: int) -> Tensor:
        """Rows [series * rows, 3 * d_model] of queries, keys and values, whose pairs of the first two turn by complex
        [series * rows or 1, 1, size / 2] -> contiguous float32 [3, groups, rows, size]. May write over `projected`."""
        projected = projected.float()
        pairs = projected.view(len(projected), 3 * self.count, -1, 2)[:, : 2 * self.count]
        torch.view_as_complex(pairs).mul_(turns)
        return self.split(projected, series)


class PrefixCache(ABC):
    """One layer's keys and values: a prefix for all paths of a series, and for each path its own suffix.

    Rows are path after path, series after series; each path adds t of them, at a `place`. Every query sees the whole
    prefix, and of its own path what the place lets it see. What comes out is float32.
    """

    @abstractmethod
    def store_prefix(self, keys_values: Tensor) -> None:
        """[2, groups, P, size], turned. What was stored before is forgotten."""

    @abstractmethod
    def attend_window(self, queries: Tensor) -> Tensor:
        """Scaled and turned queries [groups, P, size] of the stored prefix itself, each of which sees what is stored up to
        its own place -> [series * P, d_model]."""

    @abstractmethod
    def reserve(self, paths: int, capacity: int) -> None:
        """Room for what `paths` paths of each series add. Memory that fits already is kept."""

    @abstractmethod
    def extend(self, projected: Tensor, turns: Tensor, place: Place) -> Tensor:
        """projected [rows, 3 * d_model]: scaled queries, keys and values, whose pairs turn by complex [t, 1, size / 2];
        store what the paths add and attend -> [rows, d_model]. May write over `projected`."""

    @abstractmethod
    def append(self, keys_values: Tensor, place: Place) -> None:
        """Store what the paths add, [rows, 2 * d_model], as it is."""

    @abstractmethod
    def attend(self, queries: Tensor, place: Place) -> Tensor:
        """Scaled queries [rows, d_model], as they are, of which the last one's key was put at `place` -> same shape."""


class TorchPrefixCache(PrefixCache):
    """On any device: a prefix [2, groups, P, size] and a suffix [2, groups * paths, capacity, size], keys first."""

    def __init__(self, heads: Heads) -> None:
        self._heads = heads
        self._prefix: Tensor | None = None
        self._suffix: Tensor | None = None

    def store_prefix(self, keys_values: Tensor) -> None:
        if self._prefix is None or self._prefix.shape != keys_values.shape:
            self._prefix = keys_values.clone()
        else:
            self._prefix.copy_(keys_values)  # a recorded graph reads this memory

    def attend_window(self, queries: Tensor) -> Tensor:
        keys, values = self._stored_prefix()[:, None]
        attended = functional.scaled_dot_product_attention(queries[None], keys, values, is_causal=True, scale=1.0)
        return self._heads.merge(attended[0], self._series)

    def reserve(self, paths: int, capacity: int) -> None:
        prefix = self._stored_prefix()
        shape = (2, prefix.shape[1] * paths, capacity, self._heads.size)
        if self._suffix is None or self._suffix.shape != shape:
            self._suffix = prefix.new_zeros(shape)

    def extend(self, projected: Tensor, turns: Tensor, place: Place) -> Tensor:
        if len(turns) > 1:
            turns = turns.repeat(len(projected) // len(turns), 1, 1)
        queries_keys_values = self._heads.split_turned(projected, turns, self._series)
        self._store(queries_keys_values[1:], place)
        return self._attended(queries_keys_values[0], place)

    def append(self, keys_values: Tensor, place: Place) -> None:
        self._store(self._heads.split(keys_values.float(), self._series), place)

    def attend(self, queries: Tensor, place: Place) -> Tensor:
        (by_group,) = self._heads.split(queries, self._series)
        return self._attended(by_group, place)

    def _store(self, keys_values: Tensor, place: Place) -> None:
        """[2, groups, paths * t, size]."""
        stored = self._stored_suffix()
        place.write(stored, keys_values.view(2, stored.shape[1], -1, self._heads.size))

    def _attended(self, queries: Tensor, place: Place) -> Tensor:
        """[groups, paths * t, size], contiguous -> [rows, d_model]."""
        prefix_keys, prefix_values = self._stored_prefix()
        suffix_keys, suffix_values = place.visible(self._stored_suffix())
        groups, rows, size = queries.shape
        all_paths, visible, _ = suffix_keys.shape
        prefix, t = prefix_keys.shape[1], groups * rows // all_paths

        own_scores = torch.bmm(queries.view(all_paths, t, size), suffix_keys.transpose(1, 2))
        place.hide(own_scores)
        scores = torch.bmm(queries, prefix_keys.transpose(1, 2))
        weights = torch.cat((scores, own_scores.view(groups, rows, visible)), dim=-1).softmax(dim=-1)
        attended = torch.bmm(weights[..., :prefix], prefix_values)
        own_weights = weights.view(all_paths, t, prefix + visible)[..., prefix:]
        attended.view(all_paths, t, size).baddbmm_(own_weights, suffix_values)
        return self._heads.merge(attended, self._series)

    @property
    def _series(self) -> int:
        return self._stored_prefix().shape[1] // self._heads.count

    def _stored_prefix(self) -> Tensor:
        assert self._prefix is not None, "the prefix is stored before anything attends to it"  # noqa: S101
        return self._prefix

    def _stored_suffix(self) -> Tensor:
        assert self._suffix is not None, "room for the paths is reserved before they come"  # noqa: S101
        return self._suffix
