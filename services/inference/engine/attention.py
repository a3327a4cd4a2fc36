"""Attention of paths that share one prefix: two products, and one softmax over both.

All paths of a series start from one history. Its keys and values are stored once, without a row per path; each path adds
its own. Scores against the prefix are one product per head for all paths at once, since the prefix is the same for all;
then each path attends to its own few. Knows shapes; does not know how positions are encoded or how tokens are drawn.

Throughout, `groups` is series * heads: each head of each series on its own, with the series' paths behind it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

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


class SharedPrefixCache:
    """One layer's keys and values: a prefix [2, groups, P, size] for all paths of a series, and for each path its own
    suffix [2, groups * paths, capacity, size]; keys first."""

    def __init__(self, heads: Heads) -> None:
        self.heads = heads
        self._prefix: Tensor | None = None
        self._suffix: Tensor | None = None

    def store_prefix(self, keys_values: Tensor) -> None:
        """[2, groups, P, size]. Memory that fits already is written over: a recorded graph reads it."""
        if self._prefix is None or self._prefix.shape != keys_values.shape:
            self._prefix = keys_values.clone()
        else:
            self._prefix.copy_(keys_values)

    def reserve(self, paths: int, capacity: int) -> None:
        """Room for what `paths` paths of each series add. Memory that fits already is kept."""
        prefix = self._stored_prefix()
        shape = (2, prefix.shape[1] * paths, capacity, self.heads.size)
        if self._suffix is None or self._suffix.shape != shape:
            self._suffix = prefix.new_zeros(shape)

    def append(self, keys_values: Tensor, place: Place) -> None:
        """Store what the paths add at `place`: [2, groups, paths * t, size]."""
        stored = self._stored_suffix()
        place.write(stored, keys_values.view(2, stored.shape[1], -1, self.heads.size))

    def attend(self, queries: Tensor, place: Place) -> Tensor:
        """queries (already scaled) [groups, paths * t, size], contiguous -> same.

        Every query sees the whole prefix, and of its own path what `place` lets it see.
        """
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
        return attended

    def _stored_prefix(self) -> Tensor:
        assert self._prefix is not None, "the prefix is stored before anything attends to it"  # noqa: S101
        return self._prefix

    def _stored_suffix(self) -> Tensor:
        assert self._suffix is not None, "room for the paths is reserved before they come"  # noqa: S101
        return self._suffix
