"""The tokenizer: a candle becomes a coarse and a fine token (binary spherical quantisation), and back.

Both directions are causal: appending candles never changes the tokens, or the decoding, of those before. Works on
normalised candles [..., 6]; knows nothing of prices, of the model that predicts tokens, or of the training loss.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from .config import TokenizerConfig
from .layers import TransformerBlock


class BinarySphericalQuantizer(nn.Module):
    """Signs of a unit vector as bits (arXiv 2406.07548). `basis` and `group_basis` belong to the published layout."""

    basis: Tensor
    group_basis: Tensor

    def __init__(self, codebook_bits: int, group_size: int) -> None:
        super().__init__()
        self.codebook_bits = codebook_bits
        self.register_buffer("basis", 2 ** torch.arange(codebook_bits - 1, -1, -1))
        self.register_buffer("group_basis", 2 ** torch.arange(group_size - 1, -1, -1))

    def forward(self, unit: Tensor) -> Tensor:
        """unit [..., bits] -> ±1/sqrt(bits), whose gradient passes straight through to `unit`."""
        quantised = on_sphere(unit > 0).to(unit.dtype)
        return unit + (quantised - unit).detach()


class _QuantizerHolder(nn.Module):
    """Exists for its name: the published files spell the quantiser's tensors `tokenizer.bsq.*`."""

    def __init__(self, codebook_bits: int, group_size: int) -> None:
        super().__init__()
        self.bsq = BinarySphericalQuantizer(codebook_bits, group_size)


class KronosTokenizer(nn.Module):
    def __init__(self, config: TokenizerConfig) -> None:
        super().__init__()
        self.config = config
        bits = config.codebook_bits
        self.embed = nn.Linear(config.d_in, config.d_model)
        self.head = nn.Linear(config.d_model, config.d_in)
        self.encoder = _blocks(config, config.n_enc_layers - 1)
        self.decoder = _blocks(config, config.n_dec_layers - 1)
        self.quant_embed = nn.Linear(config.d_model, bits)
        self.post_quant_embed_pre = nn.Linear(config.s1_bits, config.d_model)
        self.post_quant_embed = nn.Linear(bits, config.d_model)
        self.tokenizer = _QuantizerHolder(bits, config.group_size)

    @property
    def quantizer(self) -> BinarySphericalQuantizer:
        quantizer: BinarySphericalQuantizer = self.tokenizer.bsq
        return quantizer

    def encode(self, candles: Tensor) -> tuple[Tensor, Tensor]:
        """candles [batch, t, d_in], normalised -> coarse and fine token ids, int64 [batch, t] each.

        The sign of each dimension is one bit (above 0 is 1); bit i of a token weighs 2^i.
        """
        bits = (self._latent(candles) > 0).long()
        return ids_of(bits[..., : self.config.s1_bits]), ids_of(bits[..., self.config.s1_bits :])

    def decode(self, s1: Tensor, s2: Tensor) -> Tensor:
        """s1, s2 [batch, t] -> normalised candles [batch, t, d_in]."""
        bits = torch.cat((bits_of(s1, self.config.s1_bits), bits_of(s2, self.config.s2_bits)), dim=-1)
        return self._decode(self.post_quant_embed(on_sphere(bits).to(self.post_quant_embed.weight.dtype)))

    def forward(self, candles: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """For training: candles [batch, t, d_in] -> reconstruction from the coarse bits alone, full reconstruction
        [batch, t, d_in] each, the unit vector z before quantising and the quantised one [batch, t, bits] each.
        """
        z = functional.normalize(self._latent(candles), dim=-1)
        quantised = self.quantizer(z)
        coarse = self._decode(self.post_quant_embed_pre(quantised[..., : self.config.s1_bits]))
        full = self._decode(self.post_quant_embed(quantised))
        return coarse, full, z, quantised

    def _latent(self, candles: Tensor) -> Tensor:
        """[batch, t, d_in] -> [batch, t, bits]; not normalised, which does not change a sign."""
        x = self.embed(candles)
        for block in self.encoder:
            x = block(x)
        latent: Tensor = self.quant_embed(x)
        return latent

    def _decode(self, x: Tensor) -> Tensor:
        for block in self.decoder:
            x = block(x)
        candles: Tensor = self.head(x)
        return candles


def _blocks(config: TokenizerConfig, count: int) -> nn.ModuleList:
    return nn.ModuleList(
        TransformerBlock(
            config.d_model,
            config.n_heads,
            config.ff_dim,
            ffn_dropout_p=config.ffn_dropout_p,
            attn_dropout_p=config.attn_dropout_p,
            resid_dropout_p=config.resid_dropout_p,
        )
        for _ in range(count)
    )


def on_sphere(bits: Tensor) -> Tensor:
    """bits [..., codebook_bits] of 0 and 1 -> ±1/sqrt(codebook_bits), float32."""
    return (bits.float() * 2.0 - 1.0) / math.sqrt(bits.shape[-1])


def ids_of(bits: Tensor) -> Tensor:
    """bits [..., n] -> [...]."""
    return (bits << torch.arange(bits.shape[-1], device=bits.device)).sum(dim=-1)


def bits_of(ids: Tensor, count: int) -> Tensor:
    """ids [...] -> [..., count] of 0 and 1."""
    return (ids.unsqueeze(-1) >> torch.arange(count, device=ids.device)) & 1
