"""The tokenizer packed for running: candles to tokens, and the tokens of many paths back to candles behind one history.

Always in float32: its products are few, and a bit that flips here is another token. Knows nothing of prices.
"""

from __future__ import annotations

import torch
from torch import Tensor

from services.inference.model.tokenizer import KronosTokenizer, bits_of, ids_of, on_sphere
from services.inference.native.kernels import Kernels

from .attention import PrefixCache
from .place import Span
from .precision import FLOAT32
from .products import pack
from .stack import PackedStack


class TokenizerCaches:
    """What the decoder remembers of `series` histories."""

    def __init__(self, series: int, layers: list[PrefixCache], prefix_length: int) -> None:
        self.series, self.layers, self.prefix_length = series, layers, prefix_length


class PackedTokenizer:
    @torch.inference_mode()
    def __init__(self, tokenizer: KronosTokenizer, kernels: Kernels | None, max_context: int) -> None:
        self.config = tokenizer.config
        self._embed = pack(tokenizer.embed.weight, tokenizer.embed.bias, FLOAT32, kernels)
        self._encoder = PackedStack(tokenizer.encoder, FLOAT32, kernels, max_context)
        self._quantise = pack(tokenizer.quant_embed.weight, tokenizer.quant_embed.bias, FLOAT32, kernels)
        self._dequantise = pack(tokenizer.post_quant_embed.weight, tokenizer.post_quant_embed.bias, FLOAT32, kernels)
        self._decoder = PackedStack(tokenizer.decoder, FLOAT32, kernels, max_context)
        self._head = pack(tokenizer.head.weight, tokenizer.head.bias, FLOAT32, kernels)

    def encode(self, candles: Tensor) -> Tensor:
        """Normalised candles [series, t, d_in] -> int64 [2, series, t]: coarse and fine tokens."""
        series, t, _ = candles.shape
        x = self._encoder.prefill(self._embed(candles.flatten(0, 1)), series, None)
        bits = (self._quantise(x) > 0).long().view(series, t, -1)
        return torch.stack((ids_of(bits[..., : self.config.s1_bits]), ids_of(bits[..., self.config.s1_bits :])))

    def remember(self, history: Tensor) -> TokenizerCaches:
        """Tokens of the histories [2, series, t], which all their paths share."""
        _, series, t = history.shape
        caches = TokenizerCaches(series, self._decoder.new_caches(), t)
        self._decoder.remember(self._from_tokens(history), series, caches.layers)
        return caches

    def decode(self, paths: Tensor, caches: TokenizerCaches) -> Tensor:
        """Tokens [2, series * paths, horizon] behind the remembered histories -> candles [series * paths, horizon,
        d_in]."""
        _, rows, horizon = paths.shape
        for cache in caches.layers:
            cache.reserve(rows // caches.series, horizon)
        x = self._decoder.extend(self._from_tokens(paths), caches.layers, Span(0, horizon), caches.prefix_length)
        return self._head(x).view(rows, horizon, -1)

    def _from_tokens(self, tokens: Tensor) -> Tensor:
        """[2, rows, t] -> [rows * t, d_model]."""
        s1, s2 = tokens
        bits = torch.cat((bits_of(s1, self.config.s1_bits), bits_of(s2, self.config.s2_bits)), dim=-1)
        return self._dequantise(on_sphere(bits).flatten(0, 1))
