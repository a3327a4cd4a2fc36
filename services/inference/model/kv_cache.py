"""Keys and values that N paths share, and those that each path has of its own.

All paths start from one history. Its keys and values are stored once, without a row per path; only what a path adds
gets rows. A cache begins without a prefix; the first thing stored becomes the prefix, all later things are suffix.
The suffix is allocated once, when the number of rows is known, for as many tokens as a path can ever add.

Knows shapes. Does not know what attends, how positions are encoded, or how tokens are drawn.
"""

from __future__ import annotations

import torch
from torch import Tensor


class LayerCache:
    """One layer's cache: prefix [heads, P, head_dim], suffix [rows, heads, up to `suffix_capacity`, head_dim]."""

    def __init__(self, rows: int, suffix_capacity: int) -> None:
        self.rows = rows
        self.suffix_length = 0
        self._most_rows = rows
        self._suffix_capacity = suffix_capacity
        self._prefix: tuple[Tensor, Tensor] | None = None
        self._suffix: tuple[Tensor, Tensor] | None = None

    @property
    def has_prefix(self) -> bool:
        return self._prefix is not None

    @property
    def length(self) -> int:
        """How many positions a row sees: the position that the next token takes."""
        prefix = 0 if self._prefix is None else self._prefix[0].shape[1]
        return prefix + self.suffix_length

    def store(self, keys: Tensor, values: Tensor) -> None:
        """keys, values: [1, heads, P, head_dim] for the prefix, then [rows, heads, t, head_dim]."""
        if self._prefix is None:
            self._prefix = (keys[0], values[0])
            return
        if self._suffix is None:
            shape = (self._most_rows, keys.shape[1], self._suffix_capacity, keys.shape[3])
            self._suffix = (keys.new_empty(shape), values.new_empty(shape))
        end = self.suffix_length + keys.shape[2]
        self._suffix[0][: self.rows, :, self.suffix_length : end] = keys
        self._suffix[1][: self.rows, :, self.suffix_length : end] = values
        self.suffix_length = end

    def prefix(self) -> tuple[Tensor, Tensor]:
        """Keys and values [heads, P, head_dim]."""
        assert self._prefix is not None, "the prefix is stored before anything attends to it"  # noqa: S101
        return self._prefix

    def suffix(self) -> tuple[Tensor, Tensor]:
        """Keys and values [rows, heads, suffix_length, head_dim]; every row's own tokens."""
        if self._suffix is None:
            heads, _, head_dim = self.prefix()[0].shape
            nothing = self.prefix()[0].new_empty((self.rows, heads, 0, head_dim))
            return nothing, nothing
        keys, values = self._suffix
        return keys[: self.rows, :, : self.suffix_length], values[: self.rows, :, : self.suffix_length]

    def start_rows(self, rows: int) -> None:
        """Keep the prefix and begin anew behind it, with at most as many rows as there is memory for."""
        self.rows = rows
        self.suffix_length = 0

    def clear(self) -> None:
        """Forget prefix and suffix; the suffix keeps its memory."""
        self._prefix = None
        self.suffix_length = 0


class KvCache:
    """The caches of a stack of layers, and one for a dependency layer behind it if there is one."""

    def __init__(self, layers: int, rows: int, suffix_capacity: int) -> None:
        self.layers = [LayerCache(rows, suffix_capacity) for _ in range(layers)]
        self.dependency = LayerCache(rows, suffix_capacity)

    def start_rows(self, rows: int) -> None:
        for layer in (*self.layers, self.dependency):
            layer.start_rows(rows)

    def clear(self) -> None:
        for layer in (*self.layers, self.dependency):
            layer.clear()


def attend_to_prefix_and_suffix(queries: Tensor, cache: LayerCache) -> Tensor:
    """One softmax over the shared prefix and each row's own suffix; the last t suffix tokens are the queries' own.

    queries [rows, heads, t, head_dim] -> [rows, heads, t, head_dim]. Causal among the row's own tokens; every query
    sees the whole prefix. The prefix product is one matrix product per head for all rows: the prefix is never copied.
    """
    rows, heads, t, head_dim = queries.shape
    prefix_keys, prefix_values = cache.prefix()
    suffix_keys, suffix_values = cache.suffix()
    prefix_length, suffix_length = prefix_keys.shape[1], suffix_keys.shape[2]

    queries = queries * head_dim**-0.5
    by_head = queries.transpose(0, 1).reshape(heads, rows * t, head_dim)
    scores = queries.new_empty((heads, rows, t, prefix_length + suffix_length))
    scores[..., :prefix_length] = (by_head @ prefix_keys.transpose(1, 2)).view(heads, rows, t, prefix_length)
    own = (queries @ suffix_keys.transpose(2, 3)).transpose(0, 1)
    if t > 1:
        own = own.masked_fill(_not_yet_seen(t, suffix_length, own.device), float("-inf"))
    scores[..., prefix_length:] = own

    weights = scores.softmax(dim=-1)
    from_prefix = weights[..., :prefix_length].reshape(heads, rows * t, prefix_length) @ prefix_values
    from_suffix = weights[..., prefix_length:].transpose(0, 1) @ suffix_values
    return from_prefix.view(heads, rows, t, head_dim).transpose(0, 1) + from_suffix


def _not_yet_seen(t: int, suffix_length: int, device: torch.device) -> Tensor:
    """[t, suffix_length], true where a key comes after the query; the queries are the last t tokens of the suffix."""
    return torch.ones((t, suffix_length), dtype=torch.bool, device=device).triu(1 + suffix_length - t)
