"""The machine's own ceiling for a forecast: the same matrix products, back to back, with nothing in between.

Products with weights go through the very kernels that the engine uses, each with weights of its own, so all of them
stream through the caches as they do in a forecast; attention's products likewise have keys and values of their own for
each layer. What a phase takes beyond its ceiling is everything that is not a matrix product.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from time import perf_counter

import torch
from torch import Tensor

from services.inference.engine import FLOAT32, Precision
from services.inference.engine.products import pack
from services.inference.model.config import DEPENDENCY_HEADS, KronosConfig, TokenizerConfig

Shape = tuple[int, int]  # in, out
Work = Callable[[], object]


@dataclass(frozen=True)
class Workload:
    """One panel's forecast."""

    model: KronosConfig
    tokenizer: TokenizerConfig
    precision: Precision
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

    with_weights: Work
    of_attention: Work

    def seconds(self) -> tuple[float, float]:
        """Of the products with weights, and of attention's."""
        return _timed(self.with_weights), _timed(self.of_attention)


def ceilings(work: Workload) -> dict[str, Ceiling]:
    """By phase of path_sampler.PHASES."""
    model, tokenizer = work.model, work.tokenizer
    trunk = _block_shapes(model.d_model, model.ff_dim) * model.n_layers + [(model.d_model, 2 * model.d_model)]
    heads = [
        (model.d_model, model.s1_vocabulary),
        (model.d_model, model.d_model),
        (model.d_model, model.s2_vocabulary),
    ]
    encoder = _block_shapes(tokenizer.d_model, tokenizer.ff_dim) * (tokenizer.n_enc_layers - 1)
    decoder = _block_shapes(tokenizer.d_model, tokenizer.ff_dim) * (tokenizer.n_dec_layers - 1)
    history_rows = work.series * work.history
    trunk_products = _products(trunk, work.precision)
    decoder_products = _products(decoder, FLOAT32)

    def decode() -> None:
        for _ in range(work.horizon - 1):
            trunk_at_rows()
        for _ in range(work.horizon):
            heads_at_rows()

    def detokenise() -> None:
        decoder_at_history()
        decoder_at_paths()

    trunk_at_rows = _run(trunk_products, work.rows, work.precision)
    heads_at_rows = _run(_products(heads, work.precision), work.rows, work.precision)
    decoder_at_history = _run(decoder_products, history_rows, FLOAT32)
    decoder_at_paths = _run(decoder_products, work.rows * work.horizon, FLOAT32)
    encode = _run(_products(encoder, FLOAT32), history_rows, FLOAT32)
    prefill = _run(trunk_products, history_rows, work.precision)
    layers = tokenizer.n_enc_layers - 1
    return {
        "encode": Ceiling(encode, partial(_repeat, _causal(work, tokenizer.n_heads, tokenizer.d_model), layers)),
        "prefill": Ceiling(prefill, partial(_repeat, _causal(work, model.n_heads, model.d_model), model.n_layers)),
        "decode": Ceiling(decode, _decode_attention(work)),
        "detokenise": Ceiling(detokenise, _detokenise_attention(work)),
    }


def _block_shapes(d_model: int, ff_dim: int) -> list[Shape]:
    return [(d_model, 3 * d_model), (d_model, d_model), (d_model, ff_dim), (d_model, ff_dim), (ff_dim, d_model)]


def _products(shapes: Sequence[Shape], precision: Precision) -> list[tuple[int, Callable[[Tensor], Tensor]]]:
    return [(size, pack(0.02 * torch.randn(out, size), None, precision)) for size, out in shapes]


def _run(products: Sequence[tuple[int, Callable[[Tensor], Tensor]]], rows: int, precision: Precision) -> Work:
    inputs = {size: torch.randn(rows, size).to(precision.activations) for size, _ in products}

    def run() -> None:
        for size, product in products:
            product(inputs[size])

    return run


def _causal(work: Workload, heads: int, d_model: int) -> Work:
    """Queries against keys and weights against values, of whole windows; half of both is masked, so half is counted."""
    groups, size, half = work.series * heads, d_model // heads, work.history // 2
    queries, keys = torch.randn(groups, work.history, size), torch.randn(groups, size, half)
    weights, values = torch.randn(groups, work.history, half), torch.randn(groups, half, size)
    return lambda: (torch.bmm(queries, keys), torch.bmm(weights, values))


def _repeat(work: Work, times: int) -> None:
    for _ in range(times):
        work()


def _decode_attention(work: Workload) -> Work:
    heads = [work.model.n_heads] * work.model.n_layers + [DEPENDENCY_HEADS]
    layers = [_prefix_and_suffix(work, count, work.model.d_model) for count in heads]

    def run() -> None:
        for step in range(1, work.horizon):
            for layer in layers:
                layer(1, step)

    return run


def _detokenise_attention(work: Workload) -> Work:
    layer = _prefix_and_suffix(work, work.tokenizer.n_heads, work.tokenizer.d_model)

    def run() -> None:
        for _ in range(work.tokenizer.n_dec_layers - 1):
            layer(work.horizon, work.horizon)

    return run


def _prefix_and_suffix(work: Workload, heads: int, d_model: int) -> Callable[[int, int], None]:
    """Four products, for `t` queries of each path and `visible` keys of its own."""
    groups, size = work.series * heads, d_model // heads
    keys, values = torch.randn(groups, work.history, size), torch.randn(groups, work.history, size)
    own_keys, own_values = (torch.randn(groups * work.paths, work.horizon, size) for _ in range(2))

    def run(t: int, visible: int) -> None:
        queries = torch.empty(groups, work.paths * t, size)
        by_path = queries.view(groups * work.paths, t, size)
        scores = torch.bmm(queries, keys.transpose(1, 2))
        own_scores = torch.bmm(by_path, own_keys[:, :visible].transpose(1, 2))
        torch.bmm(scores, values)
        torch.bmm(own_scores, own_values[:, :visible])

    return run


def _timed(work: Work) -> float:
    started = perf_counter()
    work()
    return perf_counter() - started
