"""How well a tokenizer tells candles apart, on windows that it need not have seen. Nothing here trains."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from services.inference.model.tokenizer import KronosTokenizer
from services.inference.training.windows import WindowSource
from shared.klines import CLOSE, COLUMNS

WINDOWS = 128
PRICES, VOLUMES = slice(0, 4), slice(4, 6)


@dataclass(frozen=True)
class TokenizerQuality:
    """Root mean square errors; a move is the std of a window's changes of the close from candle to candle.

    `error_in_moves` by column for the prices, of the full reconstruction; `close_error_from_coarse` that of the close from the
    coarse bits alone. `error_in_stds` for volume and amount, in the window's own std. `codes_used` and `entropy` (nats) of the
    coarse and the fine token. `bits_for_volume` is the share of the bits that flip with the volume columns of another window
    among those that flip with its prices or its volumes: how much volume crowds prices out.
    """

    error_in_moves: dict[str, float]
    close_error_from_coarse: float
    error_in_stds: dict[str, float]
    codes_used: tuple[float, float]
    entropy: tuple[float, float]
    bits_for_volume: float


@torch.inference_mode()
def tokenizer_quality(tokenizer: KronosTokenizer, source: WindowSource, history: int) -> TokenizerQuality:
    """On WINDOWS windows spread evenly over `source`, normalised by their first `history` candles."""
    candles = source.evenly(WINDOWS, history).candles.to(next(tokenizer.parameters()).device)
    coarse, full, _, _ = tokenizer(candles)
    moves = candles[:, :, CLOSE].diff(dim=1).std(dim=1)
    errors = (full - candles).square().mean(dim=1).sqrt()
    in_moves = (errors[:, PRICES] / moves[:, None]).mean(dim=0)
    in_stds = errors[:, VOLUMES].mean(dim=0)
    from_coarse = (coarse - candles)[:, :, CLOSE].square().mean(dim=1).sqrt() / moves
    tokens, bits = tokenizer.encode(candles), (tokenizer.config.s1_bits, tokenizer.config.s2_bits)
    return TokenizerQuality(
        error_in_moves=dict(zip(COLUMNS[PRICES], in_moves.tolist(), strict=True)),
        close_error_from_coarse=from_coarse.mean().item(),
        error_in_stds=dict(zip(COLUMNS[VOLUMES], in_stds.tolist(), strict=True)),
        codes_used=(_share_used(tokens[0], bits[0]), _share_used(tokens[1], bits[1])),
        entropy=(unigram_entropy(tokens[0], bits[0]), unigram_entropy(tokens[1], bits[1])),
        bits_for_volume=_bits_for_volume(tokenizer, candles),
    )


def unigram_entropy(tokens: Tensor, bits: int) -> float:
    """Entropy in nats of the frequencies of `tokens` (any shape): what a model that knows only those would pay."""
    shares = _counts(tokens, bits).double() / tokens.numel()
    return float(-(shares * shares.clamp_min(1e-300).log()).sum())


def _share_used(tokens: Tensor, bits: int) -> float:
    return int(_counts(tokens, bits).count_nonzero()) / (1 << bits)


def _counts(tokens: Tensor, bits: int) -> Tensor:
    return torch.bincount(tokens.flatten(), minlength=1 << bits)


def _bits_for_volume(tokenizer: KronosTokenizer, candles: Tensor) -> float:
    """Each window with the volumes, or the prices, of the next one among them."""
    others = candles.roll(1, dims=0)
    with_others_volumes = torch.cat((candles[..., PRICES], others[..., VOLUMES]), dim=-1)
    with_others_prices = torch.cat((others[..., PRICES], candles[..., VOLUMES]), dim=-1)
    by_volume, by_price = (_flipped(tokenizer, candles, one) for one in (with_others_volumes, with_others_prices))
    return by_volume / max(by_volume + by_price, 1e-12)


def _flipped(tokenizer: KronosTokenizer, candles: Tensor, others: Tensor) -> float:
    """The share of bits that differ."""
    _, _, _, ours = tokenizer(candles)
    _, _, _, theirs = tokenizer(others)
    return float(((ours > 0) != (theirs > 0)).float().mean())
