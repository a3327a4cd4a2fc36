"""Attention of the trunk and the tokenizer, and the attention of the dependency layer, over whole windows.

Plain and trainable; the oracle in the tests runs it too. Forecasts run the packed form (`engine/`), which gives the same
numbers. Knows nothing of what the tokens mean.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class Rotary(nn.Module):
    """Rotary embedding, base 10000, half-split layout: (a, b) -> (a cos - b sin, b cos + a sin)."""

    inv_freq: Tensor

    def __init__(self, head_dim: int) -> None:
        super().__init__()
        self.register_buffer("inv_freq", 1.0 / (10000.0 ** (torch.arange(0, head_dim, 2).float() / head_dim)))
        self._tables: tuple[Tensor, Tensor] | None = None

    def forward(self, x: Tensor) -> Tensor:
        """x [batch, heads, t, head_dim], its tokens at positions 0, 1, ..."""
        cos, sin = (table[: x.shape[2]] for table in self._cos_and_sin(x.shape[2], x))
        a, b = x.chunk(2, dim=-1)
        return torch.cat((a * cos - b * sin, b * cos + a * sin), dim=-1)

    @torch.inference_mode(False)  # a table made while sampling must still serve a later training step
    @torch.no_grad()
    def _cos_and_sin(self, length: int, like: Tensor) -> tuple[Tensor, Tensor]:
        """[at least length, head_dim / 2] each, computed once from the loaded frequencies and kept."""
        tables = self._tables
        if (
            tables is None
            or len(tables[0]) < length
            or tables[0].dtype != like.dtype
            or tables[0].device != like.device
        ):
            positions = torch.arange(max(length, 512), device=self.inv_freq.device)
            angles = torch.outer(positions.float(), self.inv_freq.float())
            tables = (angles.cos().to(like), angles.sin().to(like))
            self._tables = tables
        return tables


class _Projections(nn.Module):
    """The four projections with bias and the split into heads."""

    def __init__(self, d_model: int, n_heads: int, attn_dropout_p: float, resid_dropout_p: float) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.head_dim = d_model // n_heads
        self.attn_dropout_p = attn_dropout_p
        self.q_proj = nn.Linear(d_model, d_model)
        self.k_proj = nn.Linear(d_model, d_model)
        self.v_proj = nn.Linear(d_model, d_model)
        self.out_proj = nn.Linear(d_model, d_model)
        self.rotary = Rotary(self.head_dim)
        self.resid_dropout = nn.Dropout(resid_dropout_p)

    def split(self, x: Tensor) -> Tensor:
        """[batch, t, d_model] -> [batch, heads, t, head_dim]."""
        return x.view(*x.shape[:-1], self.n_heads, self.head_dim).transpose(1, 2)

    def merge(self, heads: Tensor) -> Tensor:
        """[batch, heads, t, head_dim] -> the output projection [batch, t, d_model]."""
        batch, _, t, _ = heads.shape
        merged = heads.transpose(1, 2).reshape(batch, t, self.n_heads * self.head_dim)
        projected: Tensor = self.resid_dropout(self.out_proj(merged))
        return projected

    def causal(self, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        dropout = self.attn_dropout_p if self.training else 0.0
        return functional.scaled_dot_product_attention(queries, keys, values, dropout_p=dropout, is_causal=True)


class SelfAttention(_Projections):
    """Causal self-attention with rotary positions counted from the start of the window."""

    def forward(self, x: Tensor) -> Tensor:
        """x [batch, t, d_model], the whole window -> same."""
        queries, keys = self.rotary(self.split(self.q_proj(x))), self.rotary(self.split(self.k_proj(x)))
        return self.merge(self.causal(queries, keys, self.split(self.v_proj(x))))


class DependencyAttention(_Projections):
    """Attention of the drawn coarse token to the hidden states, without any rotation.

    Its `rotary` frequencies are in the published files and unused: with one query the reference's tables have length
    one, so all keys and the query get rotation zero.
    """

    def forward(self, query: Tensor, hidden: Tensor) -> Tensor:
        """Teacher-forced: query and hidden [batch, t, d_model]; the query at t sees hidden states up to t only.

        Without that mask it would see hidden state t + 1, which embeds the very token it has to predict.
        """
        keys, values = self.split(self.k_proj(hidden)), self.split(self.v_proj(hidden))
        return self.merge(self.causal(self.split(self.q_proj(query)), keys, values))
