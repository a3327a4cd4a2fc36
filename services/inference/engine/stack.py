"""Transformer blocks packed for running: fused projections, norms folded into them, caches behind a shared prefix.

Of each block of `model/layers.py` the norms' weights are multiplied into the projections that follow, the softmax scale
into the queries, and the halves that a rotation mixes are laid side by side, so that rotating is one complex product.
The residual stream, norms and what attention sums are float32 in every precision. Knows nothing of tokens.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from services.inference.model.attention import SelfAttention
from services.inference.model.layers import TransformerBlock
from services.inference.native.kernels import Kernels

from .attention import Heads, PrefixCache, TorchPrefixCache
from .native_attention import NativePrefixCache
from .place import Place
from .precision import Precision
from .products import pack


def new_cache(heads: Heads, precision: Precision, kernels: Kernels | None) -> PrefixCache:
    if kernels is not None:
        coarse = precision.name != "float32" and "bfloat16" in kernels.multiplies
        return NativePrefixCache(heads, kernels, "bfloat16" if coarse else "float32")
    return TorchPrefixCache(heads)


class PackedBlock:
    """One block over rows [rows, d_model]; a cache of its own for every forecast in hand is handed in."""

    def __init__(
        self, block: TransformerBlock, precision: Precision, kernels: Kernels | None, most_positions: int
    ) -> None:
        attention, ffn = block.self_attn, block.ffn
        self._heads = Heads(attention.n_heads, attention.head_dim)
        self._frequencies = attention.rotary.inv_freq.float().clone()
        self._turns = self._turns_up_to(most_positions)
        before_attention, before_ffn = block.norm1.weight, block.norm2.weight
        weight, bias = _query_key_value(attention)
        self._query_key_value = pack(weight * before_attention, bias, precision, kernels)
        self._out = pack(attention.out_proj.weight, attention.out_proj.bias, precision, kernels)
        self._gate = pack(ffn.w1.weight * before_ffn, None, precision, kernels)
        self._up = pack(ffn.w3.weight * before_ffn, None, precision, kernels)
        self._down = pack(ffn.w2.weight, None, precision, kernels)
        self._precision, self._kernels = precision, kernels

    def new_cache(self) -> PrefixCache:
        return new_cache(self._heads, self._precision, self._kernels)

    def prefill(self, x: Tensor, series: int, cache: PrefixCache | None) -> Tensor:
        """x [series * t, d_model], whole windows from position 0 -> same, remembered as the cache's prefix if there is
        one."""
        cache = cache or self.new_cache()
        split = self._split_window(x, series)
        cache.store_prefix(split[1:])
        return self._finish(x, cache.attend_window(split[0]))

    def remember(self, x: Tensor, series: int, cache: PrefixCache) -> None:
        """Like prefill where nobody asks what comes out: x [series * t, d_model] is only remembered."""
        cache.store_prefix(self._split_window(x, series)[1:])

    def no_keys_values(self, like: Tensor, series: int) -> Tensor:
        """What a window without tokens has: [2, groups, 0, head size]."""
        return like.new_empty((2, series * self._heads.count, 0, self._heads.size))

    def extend(self, x: Tensor, cache: PrefixCache, turns: Tensor, place: Place) -> Tensor:
        """x [series * paths * t, d_model], new tokens at `place`, whose turns are [t, ...] -> same as x."""
        return self._finish(x, cache.extend(self._project(x), turns, place))

    def turns_at(self, place: Place, behind: int) -> Tensor:
        return place.rows_of(self._turns, behind)

    def _window_turns(self, t: int, series: int) -> Tensor:
        """complex64 [series * t, 1, head size / 2] for positions from 0."""
        if t > len(self._turns):
            self._turns = self._turns_up_to(t)
        return self._turns[:t].repeat(series, 1, 1)

    def _turns_up_to(self, positions: int) -> Tensor:
        """complex64 [positions, 1, head size / 2]: the rotation of each pair at each position."""
        angles = torch.outer(torch.arange(positions, device=self._frequencies.device).float(), self._frequencies)
        return torch.polar(torch.ones_like(angles), angles)[:, None]

    def _project(self, x: Tensor) -> Tensor:
        """Queries (scaled), keys and values: [rows, 3 * d_model]."""
        return self._query_key_value.of_normalised(x)

    def _split_window(self, x: Tensor, series: int) -> Tensor:
        """Those of whole windows, turned: float32 [3, groups, t, head size]."""
        return self._heads.split_turned(self._project(x), self._window_turns(len(x) // series, series), series)

    def _finish(self, x: Tensor, attended: Tensor) -> Tensor:
        x = self._out.add_to(x, attended)
        return self._down.add_to(x, self._gate.gate_normalised(self._up, x))


class PackedStack:
    """Blocks one after another, and the caches that they need."""

    def __init__(
        self, blocks: nn.ModuleList, precision: Precision, kernels: Kernels | None, most_positions: int
    ) -> None:
        """blocks: TransformerBlocks."""
        self._blocks = [
            PackedBlock(cast("TransformerBlock", block), precision, kernels, most_positions) for block in blocks
        ]

    def new_caches(self) -> list[PrefixCache]:
        return [block.new_cache() for block in self._blocks]

    def prefill(self, x: Tensor, series: int, caches: list[PrefixCache] | None) -> Tensor:
        """x [series * t, d_model] -> same; see PackedBlock."""
        for index, block in enumerate(self._blocks):
            x = block.prefill(x, series, None if caches is None else caches[index])
        return x

    def remember(self, x: Tensor, series: int, caches: list[PrefixCache]) -> None:
        """Fill the caches; what the last block would give is not computed. x may be empty."""
        if not len(x):
            for block, cache in zip(self._blocks, caches, strict=True):
                cache.store_prefix(block.no_keys_values(x, series))
            return
        for block, cache in zip(self._blocks[:-1], caches, strict=False):
            x = block.prefill(x, series, cache)
        for block, cache in zip(self._blocks[-1:], caches[-1:], strict=True):
            block.remember(x, series, cache)

    def extend(self, x: Tensor, caches: list[PrefixCache], place: Place, behind: int) -> Tensor:
        """x [series * paths * t, d_model], path after path, at `place` behind a prefix of `behind` tokens -> same."""
        for block, cache in zip(self._blocks, caches, strict=True):
            x = block.extend(x, cache, block.turns_at(place, behind), place)
        return x


def _query_key_value(attention: SelfAttention) -> tuple[Tensor, Tensor]:
    """Weight [3 * d_model, d_model] and bias: queries scaled; within a head of queries and keys, i beside i + half."""
    scale = attention.head_dim**-0.5
    order = torch.arange(attention.head_dim).view(2, -1).t().flatten()
    rows = (attention.head_dim * torch.arange(attention.n_heads)[:, None] + order).flatten()
    query, key, value = attention.q_proj, attention.k_proj, attention.v_proj
    rows = rows.to(query.weight.device)
    return (
        torch.cat((query.weight[rows] * scale, key.weight[rows], value.weight)),
        torch.cat((query.bias[rows] * scale, key.bias[rows], value.bias)),
    )
