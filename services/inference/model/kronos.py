"""The decoder-only model: history tokens in, logits of the next coarse and then of the next fine token out.

Time features are int64 [..., 5] in the order minute, hour, weekday (Monday 0), day of month, month.
Knows nothing of candles, sampling or prices.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from .attention import DependencyAttention
from .config import DEPENDENCY_HEADS, KronosConfig
from .layers import RMSNorm, TransformerBlock

TIME_FEATURES = {"minute": 60, "hour": 24, "weekday": 7, "day": 32, "month": 13}


class Kronos(nn.Module):
    def __init__(self, config: KronosConfig) -> None:
        super().__init__()
        self.config = config
        self.token_drop = nn.Dropout(config.token_dropout_p)
        self.embedding = HierarchicalEmbedding(config)
        self.time_emb = TimeEmbedding(config.d_model, config.learn_te)
        self.transformer = nn.ModuleList(
            TransformerBlock(
                config.d_model,
                config.n_heads,
                config.ff_dim,
                ffn_dropout_p=config.ffn_dropout_p,
                attn_dropout_p=config.attn_dropout_p,
                resid_dropout_p=config.resid_dropout_p,
            )
            for _ in range(config.n_layers)
        )
        self.norm = RMSNorm(config.d_model)
        self.dep_layer = DependencyLayer(config)
        self.head = DualHead(config)

    def forward(self, s1: Tensor, s2: Tensor, time_features: Tensor, next_s1: Tensor) -> tuple[Tensor, Tensor]:
        """Teacher-forced, for training: s1, s2, next_s1 [batch, t], time_features [batch, t, 5].

        Logits [batch, t, vocabulary] of the next coarse and the next fine token at every position; the fine ones are
        given the true next coarse token (next_s1[:, i] is the coarse token after position i), and at each position see
        nothing of later positions.
        """
        hidden = self.trunk(self.embed(s1, s2, time_features))
        return self.s1_logits(hidden), self.head.s2(self.dep_layer(hidden, self.embedding.emb_s1(next_s1)))

    def embed(self, s1: Tensor, s2: Tensor, time_features: Tensor) -> Tensor:
        """s1, s2 [batch, t], time_features [batch or 1, t, 5] -> [batch, t, d_model]."""
        embedded: Tensor = self.token_drop(self.embedding(s1, s2) + self.time_emb(time_features))
        return embedded

    def trunk(self, x: Tensor) -> Tensor:
        """x [batch, t, d_model] -> normed hidden states of the same shape."""
        for block in self.transformer:
            x = block(x)
        hidden: Tensor = self.norm(x)
        return hidden

    def s1_logits(self, hidden: Tensor) -> Tensor:
        """hidden [..., d_model] -> [..., s1 vocabulary]."""
        return self.head.s1(hidden)


class HierarchicalEmbedding(nn.Module):
    """fusion_proj([emb_s1(s1), emb_s2(s2)] * sqrt(d_model))."""

    def __init__(self, config: KronosConfig) -> None:
        super().__init__()
        self.scale = math.sqrt(config.d_model)
        self.emb_s1 = nn.Embedding(config.s1_vocabulary, config.d_model)
        self.emb_s2 = nn.Embedding(config.s2_vocabulary, config.d_model)
        self.fusion_proj = nn.Linear(2 * config.d_model, config.d_model)
        for embedding in (self.emb_s1, self.emb_s2):
            nn.init.normal_(embedding.weight, std=config.d_model**-0.5)

    def forward(self, s1: Tensor, s2: Tensor) -> Tensor:
        """s1, s2 [...] -> [..., d_model]."""
        fused: Tensor = self.fusion_proj(torch.cat((self.emb_s1(s1), self.emb_s2(s2)), dim=-1) * self.scale)
        return fused


class TimeEmbedding(nn.Module):
    """The sum of five embeddings, learned or fixed sinusoids."""

    def __init__(self, d_model: int, learned: bool) -> None:
        super().__init__()
        for feature, size in TIME_FEATURES.items():
            embedding = _normal_embedding(size, d_model) if learned else FixedEmbedding(size, d_model)
            self.add_module(f"{feature}_embed", embedding)

    def forward(self, time_features: Tensor) -> Tensor:
        """int64 [..., 5] -> [..., d_model]."""
        embedded = [
            self.get_submodule(f"{feature}_embed")(time_features[..., column])
            for column, feature in enumerate(TIME_FEATURES)
        ]
        return torch.stack(embedded).sum(dim=0)


class FixedEmbedding(nn.Module):
    """Sinusoids of position (Vaswani et al. 2017, 3.5), stored in the file and never trained."""

    def __init__(self, size: int, d_model: int) -> None:
        super().__init__()
        rates = torch.exp(torch.arange(0, d_model, 2).float() * (-math.log(10000.0) / d_model))
        angles = torch.outer(torch.arange(size).float(), rates)
        self.emb = nn.Embedding(size, d_model)
        self.emb.weight = nn.Parameter(
            torch.stack((angles.sin(), angles.cos()), dim=-1).flatten(1)[:, :d_model], requires_grad=False
        )

    def forward(self, index: Tensor) -> Tensor:
        embedded: Tensor = self.emb(index)
        return embedded


class DependencyLayer(nn.Module):
    """norm(hidden + attention(query = coarse token, keys and values = hidden states)): what the fine token hangs on."""

    def __init__(self, config: KronosConfig) -> None:
        super().__init__()
        self.cross_attn = DependencyAttention(
            config.d_model, DEPENDENCY_HEADS, config.attn_dropout_p, config.resid_dropout_p
        )
        self.norm = RMSNorm(config.d_model)

    def forward(self, hidden: Tensor, coarse: Tensor) -> Tensor:
        """Teacher-forced and causal: hidden and the embedded coarse tokens [batch, t, d_model] -> same."""
        out: Tensor = self.norm(hidden + self.cross_attn(coarse, hidden))
        return out


class DualHead(nn.Module):
    def __init__(self, config: KronosConfig) -> None:
        super().__init__()
        self.proj_s1 = nn.Linear(config.d_model, config.s1_vocabulary)
        self.proj_s2 = nn.Linear(config.d_model, config.s2_vocabulary)

    def s1(self, hidden: Tensor) -> Tensor:
        logits: Tensor = self.proj_s1(hidden)
        return logits

    def s2(self, conditioned: Tensor) -> Tensor:
        logits: Tensor = self.proj_s2(conditioned)
        return logits


def _normal_embedding(size: int, d_model: int) -> nn.Embedding:
    embedding = nn.Embedding(size, d_model)
    nn.init.normal_(embedding.weight, std=d_model**-0.5)
    return embedding
