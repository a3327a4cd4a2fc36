"""The blocks that tokenizer and model share. Knows nothing of tokens."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from .attention import SelfAttention

NORM_EPSILON = 1e-5


class RMSNorm(nn.Module):
    """x * rsqrt(mean(x^2) + 1e-5) * weight; the norm itself in float32."""

    def __init__(self, d_model: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(d_model))

    def forward(self, x: Tensor) -> Tensor:
        wide = x.float()
        normed = wide * torch.rsqrt(wide.square().mean(dim=-1, keepdim=True) + NORM_EPSILON)
        return normed.type_as(x) * self.weight


class FeedForward(nn.Module):
    """w2(silu(w1 x) * w3 x), no bias."""

    def __init__(self, d_model: int, ff_dim: int, dropout_p: float) -> None:
        super().__init__()
        self.w1 = nn.Linear(d_model, ff_dim, bias=False)
        self.w3 = nn.Linear(d_model, ff_dim, bias=False)
        self.w2 = nn.Linear(ff_dim, d_model, bias=False)
        self.ffn_dropout = nn.Dropout(dropout_p)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.ffn_dropout(self.w2(functional.silu(self.w1(x)) * self.w3(x)))
        return out


class TransformerBlock(nn.Module):
    """x + attention(norm1(x)), then x + feed_forward(norm2(x))."""

    def __init__(
        self,
        d_model: int,
        n_heads: int,
        ff_dim: int,
        *,
        ffn_dropout_p: float,
        attn_dropout_p: float,
        resid_dropout_p: float,
    ) -> None:
        super().__init__()
        self.norm1 = RMSNorm(d_model)
        self.self_attn = SelfAttention(d_model, n_heads, attn_dropout_p, resid_dropout_p)
        self.norm2 = RMSNorm(d_model)
        self.ffn = FeedForward(d_model, ff_dim, ffn_dropout_p)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.self_attn(self.norm1(x))
        out: Tensor = x + self.ffn(self.norm2(x))
        return out
