"""The machine's own ceiling for a forecast: the same matrix products, back to back, with nothing in between.

Products with weights go through the very kernels that the engine uses, each with weights of its own, so all of them
stream through the caches as they do in a forecast. Attention's products are not timed: as many multiplications are counted
at the pace that the weights' products reached, which is faster than any of them goes. What a phase takes beyond its
ceiling is everything that is not a matrix product.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import perf_counter

import torch
from torch import Tensor

from services.inference.engine import FLOAT32, Precision
from services.inference.engine.products import pack
from services.inference.model.config import KronosConfig, TokenizerConfig
from services.inference.native import Kernels

Shape = tuple[int, int]  # in, out
Product = tuple[int, Callable[[Tensor], Tensor]]  # in, and what is called


@dataclass(frozen=True)
class Workload:
    """One panel's forecast."""

    model: KronosConfig
    tokenizer: TokenizerConfig
    precision: Precision
    kernels: Kernels | None
    series: int
    history: int
    horizon: int
    paths: int

    @property
    def rows(self) -> int:
        return self.series * self.paths


@dataclass(frozen=True)
class Ceiling:
    """A phase's matrix products, to be timed as often as wanted."""

    with_weights: Callable[[], None]
    attention_share: float  # attention's multiplications, beside those with weights

    def seconds(self) -> float:
        """Of the products with weights."""
        started = perf_counter()
        self.with_weights()
        return perf_counter() - started


def ceilings(work: Workload) -> dict[str, Ceiling]:
    """By phase of path_sampler.PHASES."""
    model, tokenizer, rows = work.model, work.tokenizer, work.rows
    trunk = _block_shapes(model.d_model, model.ff_dim) * model.n_layers + [(model.d_model, 2 * model.d_model)]
    heads = [
        (model.d_model, model.s1_vocabulary),
        (model.d_model, model.d_model),
        (model.d_model, model.s2_vocabulary),
    ]
    encoder = _block_shapes(tokenizer.d_model, tokenizer.ff_dim) * (tokenizer.n_enc_layers - 1)
    decoder = _block_shapes(tokenizer.d_model, tokenizer.ff_dim) * (tokenizer.n_dec_layers - 1)
    history_rows, path_rows = work.series * work.history, rows * work.horizon
    trunk_products, decoder_products = (
        _products(trunk, work.precision, work.kernels),
        _products(decoder, FLOAT32, work.kernels),
    )

    trunk_at_rows = _run(trunk_products, rows)
    heads_at_rows = _run(_products(heads, work.precision, work.kernels), rows)
    decoder_at_history, decoder_at_paths = _run(decoder_products, history_rows), _run(decoder_products, path_rows)

    def decode() -> None:
        for _ in range(work.horizon - 1):
            trunk_at_rows()
        for _ in range(work.horizon):
            heads_at_rows()

    def detokenise() -> None:
        decoder_at_history()
        decoder_at_paths()

    # Keys that are seen: by all tokens of a window, and by all that the paths add behind the history.
    within_window = work.series * work.history**2 / 2
    behind_history = rows * sum(work.history + step for step in range(1, work.horizon + 1))
    encode_attention = _attention(within_window, tokenizer.d_model, tokenizer.n_enc_layers - 1)
    prefill_attention = _attention(within_window, model.d_model, model.n_layers)
    decode_attention = _attention(behind_history, model.d_model, model.n_layers + 1)
    detokenise_attention = _attention(within_window + behind_history, tokenizer.d_model, tokenizer.n_dec_layers - 1)
    decode_multiplied = rows * ((work.horizon - 1) * _numbers(trunk) + work.horizon * _numbers(heads))
    return {
        "encode": Ceiling(
            _run(_products(encoder, FLOAT32, work.kernels), history_rows),
            encode_attention / (history_rows * _numbers(encoder)),
        ),
        "prefill": Ceiling(_run(trunk_products, history_rows), prefill_attention / (history_rows * _numbers(trunk))),
        "decode": Ceiling(decode, decode_attention / decode_multiplied),
        "detokenise": Ceiling(detokenise, detokenise_attention / ((history_rows + path_rows) * _numbers(decoder))),
    }


def _block_shapes(d_model: int, ff_dim: int) -> list[Shape]:
    return [(d_model, 3 * d_model), (d_model, d_model), (d_model, ff_dim), (d_model, ff_dim), (ff_dim, d_model)]


def _numbers(shapes: Sequence[Shape]) -> int:
    return sum(size * out for size, out in shapes)


def _attention(keys_seen: float, d_model: int, layers: int) -> float:
    """Multiplications: each key that is seen against a query, and its weight against a value."""
    return 2 * keys_seen * d_model * layers


def _products(shapes: Sequence[Shape], precision: Precision, kernels: Kernels | None) -> list[Product]:
    return [(size, pack(0.02 * torch.randn(out, size), None, precision, kernels)) for size, out in shapes]


def _run(products: Sequence[Product], rows: int) -> Callable[[], None]:
    inputs = {size: torch.randn(rows, size) for size, _ in products}

    def run() -> None:
        for size, product in products:
            product(inputs[size])

    return run
