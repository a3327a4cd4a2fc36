"""Kronos packed for running: a shared prefix is prefilled once, then each step adds one token per path.

Beyond the packed blocks: both token embeddings are folded through the fusion projection into a table each, the
dependency layer's queries are a table by coarse token, and its keys and values are one product. Gives logits; knows
nothing of how tokens are drawn from them.
"""

from __future__ import annotations

from copy import deepcopy

import torch
from torch import Tensor

from services.inference.model.config import DEPENDENCY_HEADS
from services.inference.model.kronos import Kronos
from services.inference.native.kernels import Kernels

from .attention import Heads, PrefixCache
from .place import Place
from .precision import Precision
from .products import normalise, pack
from .stack import PackedStack, new_cache


class KronosCaches:
    """What the model remembers of the forecasts in hand: `series` histories, and paths behind each."""

    def __init__(self, series: int, layers: list[PrefixCache], dependency: PrefixCache) -> None:
        self.series, self.layers, self.dependency = series, layers, dependency
        self.prefix_length = 0

    def reserve(self, paths: int, capacity: int) -> None:
        """Room for `paths` paths of each series with up to `capacity` tokens of their own."""
        for cache in (*self.layers, self.dependency):
            cache.reserve(paths, capacity)


class PackedKronos:
    @torch.inference_mode()
    def __init__(self, model: Kronos, precision: Precision, kernels: Kernels | None, max_context: int) -> None:
        self.config, self.precision, self.kernels = model.config, precision, kernels
        self.device = model.head.proj_s1.weight.device
        self._s1_table, self._s2_table = _embedding_tables(model)
        self._time = deepcopy(model.time_emb)  # its own memory: the checkpoint's mapped file can be let go
        self._stack = PackedStack(model.transformer, precision, kernels, max_context)
        attention, d_model = model.dep_layer.cross_attn, model.config.d_model
        self._dependency_heads = Heads(DEPENDENCY_HEADS, d_model // DEPENDENCY_HEADS)
        queries = attention.q_proj(model.embedding.emb_s1.weight)
        self._query_table = queries * self._dependency_heads.size**-0.5
        self._key_value = pack(
            torch.cat((attention.k_proj.weight, attention.v_proj.weight)) * model.norm.weight,
            torch.cat((attention.k_proj.bias, attention.v_proj.bias)),
            precision,
            kernels,
        )
        self._dependency_out = pack(attention.out_proj.weight, attention.out_proj.bias, precision, kernels)
        self._hidden_scale = model.norm.weight.clone()
        head = model.head
        self._s1_head = pack(head.proj_s1.weight * model.norm.weight, head.proj_s1.bias, precision, kernels)
        self._s2_head = pack(head.proj_s2.weight * model.dep_layer.norm.weight, head.proj_s2.bias, precision, kernels)

    def new_caches(self, series: int) -> KronosCaches:
        return KronosCaches(
            series, self._stack.new_caches(), new_cache(self._dependency_heads, self.precision, self.kernels)
        )

    def embed_time(self, time_features: Tensor) -> Tensor:
        """int64 [..., 5] -> [..., d_model]."""
        embedded: Tensor = self._time(time_features)
        return embedded

    def prefill(self, s1: Tensor, s2: Tensor, time: Tensor, caches: KronosCaches) -> Tensor:
        """s1, s2 [series, t], embedded time [series, t, d_model] -> the last hidden states [series, d_model], normalised
        but for the norm's weight. What was remembered before is forgotten."""
        caches.prefix_length = s1.shape[1]
        x = self._stack.prefill(self._embed(s1, s2, time), caches.series, caches.layers)
        hidden = normalise(x, self.kernels)
        keys_values = self._dependency_keys_values(hidden).float()
        caches.dependency.store_prefix(self._dependency_heads.split(keys_values, caches.series))
        return hidden.view(*s1.shape, -1)[:, -1]

    def extend(self, s1: Tensor, s2: Tensor, time: Tensor, caches: KronosCaches, place: Place) -> Tensor:
        """New tokens s1, s2 [series * paths, t] at `place`, time [same or 1, t, d_model] -> their hidden states
        [series * paths, t, d_model], normalised but for the norm's weight."""
        x = self._stack.extend(self._embed(s1, s2, time), caches.layers, place, caches.prefix_length)
        hidden = normalise(x, self.kernels)
        caches.dependency.append(self._dependency_keys_values(hidden), place)
        return hidden.view(*s1.shape, -1)

    def s1_logits(self, hidden: Tensor) -> Tensor:
        """hidden [rows, d_model] -> float32 [rows, s1 vocabulary]."""
        return self._s1_head(hidden).float()

    def s2_logits(self, hidden: Tensor, s1: Tensor, caches: KronosCaches, place: Place) -> Tensor:
        """hidden [series * paths, d_model] and the coarse tokens drawn from it [series * paths] -> float32
        [series * paths, s2 vocabulary]. `place` is where hidden's own token was put."""
        attended = caches.dependency.attend(self._query_table.index_select(0, s1), place)
        conditioned = self._dependency_out.add_to(hidden * self._hidden_scale, attended)
        return self._s2_head.of_normalised(conditioned).float()

    def _embed(self, s1: Tensor, s2: Tensor, time: Tensor) -> Tensor:
        """-> [rows * t, d_model]."""
        tokens = self._s1_table[s1] + self._s2_table[s2]
        return (tokens + time).flatten(0, 1)

    def _dependency_keys_values(self, hidden: Tensor) -> Tensor:
        """hidden [rows, d_model] -> keys and values [rows, 2 * d_model]."""
        return self._key_value(hidden)


def _embedding_tables(model: Kronos) -> tuple[Tensor, Tensor]:
    """The part of the fused embedding that each token gives, bias included in the first: [vocabulary, d_model] each."""
    embedding, d_model = model.embedding, model.config.d_model
    weight = embedding.fusion_proj.weight * embedding.scale
    coarse = embedding.emb_s1.weight @ weight[:, :d_model].t() + embedding.fusion_proj.bias
    return coarse, embedding.emb_s2.weight @ weight[:, d_model:].t()
