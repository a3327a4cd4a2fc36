"""Golden cases: a tokenizer, a model and an input in a folder, and what the reference computes from them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from services.inference.context import Context, context_for
from services.inference.engine import FLOAT32, pack
from services.inference.model.kronos import Kronos
from services.inference.model.tokenizer import KronosTokenizer
from services.inference.native import KernelError, Kernels, load_kernels
from services.inference.path_sampler import SampledPaths, SamplingOptions, sample_paths
from services.inference.token_choice import Choice, next_token_distribution
from services.inference.weights import load_kronos, load_tokenizer
from tests.parity.oracle import last_s2_logits, sample_paths_slowly

GOLDEN = Path(__file__).parent / "golden"
PATHS_AT_ONCE = 5


@dataclass(frozen=True)
class Case:
    name: str
    model: Kronos
    tokenizer: KronosTokenizer
    contexts: list[Context]  # one per series
    max_context: int
    expected: dict[str, NDArray[Any]]

    @classmethod
    def read(cls, folder: Path) -> Case:
        """From the raw klines and timestamps of the folder; nothing that it expects is used as input."""
        facts = json.loads((folder / "case.json").read_text(encoding="utf-8"))
        open_times = _open_times_ms(folder / "timestamps.csv")
        with np.load(folder / "input.npz") as arrays, np.load(folder / "expected.npz") as answers:
            klines = arrays["klines"]
            expected = {**answers, "normalised": arrays["normalised"]}
        history, max_context = klines.shape[1], int(facts["max_context"])
        contexts = [
            context_for(series, open_times[:history], open_times[history:], max_context=max_context, overflow="slide")
            for series in klines
        ]
        return cls(
            name=folder.name,
            model=load_kronos(folder / "model"),
            tokenizer=load_tokenizer(folder / "tokenizer"),
            contexts=contexts,
            max_context=max_context,
            expected=expected,
        )


@torch.inference_mode()
def differences(case: Case) -> dict[str, Any]:
    """What `python -m tests.parity` prints for the case: largest absolute differences from what is expected."""
    measured: dict[str, list[float]] = {}
    tokens_equal = True
    for series, context in enumerate(case.contexts):
        tokens = torch.stack(case.tokenizer.encode(torch.from_numpy(context.normalised)[None]))
        for ids, name in zip(tokens, ("s1_ids", "s2_ids"), strict=True):
            tokens_equal &= bool(np.array_equal(ids[0].numpy(), case.expected[name][series]))
        for name, ours, key in _numbers(case, context, tokens, series):
            measured.setdefault(name, []).append(_largest_difference(ours, case.expected[key][series]))
    return {"case": case.name, "tokens_equal": tokens_equal} | {name: max(all_) for name, all_ in measured.items()}


def _numbers(
    case: Case, context: Context, tokens: torch.Tensor, series: int
) -> Iterator[tuple[str, NDArray[Any], str]]:
    """(name of the difference, our numbers, the key of the expected ones)."""
    window = tokens[:, :, -case.max_context :]
    times = torch.from_numpy(context.past_time_features)[None, -case.max_context :]
    hidden = case.model.trunk(case.model.embed(window[0], window[1], times))
    s1_logits = case.model.s1_logits(hidden[:, -1])
    pick = s1_logits.argmax(dim=-1)

    yield "normalised", context.normalised, "normalised"
    yield "s1_logits", s1_logits[0].numpy(), "s1_logits"
    yield "s2_logits", last_s2_logits(case.model, hidden, pick)[0].numpy(), "s2_logits"
    yield "reconstruction", case.tokenizer.decode(window[0], window[1])[0].numpy(), "reconstruction"
    for key in filter(lambda key: key.startswith("probs_"), case.expected):
        temperature, top_p, top_k = (float(part[1:]) for part in key.split("_")[1:])
        ours = next_token_distribution(s1_logits[0], Choice(temperature, int(top_k), top_p))
        yield "probs", ours.numpy(), key
    for path in greedy_paths(case, context).normalised:
        yield "greedy_normalised_fast", path, "greedy_normalised"
    if _native():
        for path in greedy_paths(case, context, kernels=_native()).normalised:
            yield "greedy_normalised_native", path, "greedy_normalised"
    for path in greedy_paths(case, context, slowly=True).normalised:
        yield "greedy_normalised_slow", path, "greedy_normalised"


def greedy_paths(case: Case, context: Context, *, slowly: bool = False, kernels: Kernels | None = None) -> SampledPaths:
    """Several paths at once with top_k 1, which makes them all equal."""
    greedy = SamplingOptions(num_samples=PATHS_AT_ONCE, temperature=1.0, top_k=1, top_p=1.0, seed=0)
    if slowly:
        return sample_paths_slowly(case.model, case.tokenizer, context, greedy, max_context=case.max_context)
    return sample_paths(pack(case.model, case.tokenizer, FLOAT32, case.max_context, kernels), context, greedy)


def _native() -> Kernels | None:
    """The compiled kernels, where there are any."""
    try:
        return load_kernels()
    except KernelError:
        return None


def _largest_difference(ours: NDArray[Any], expected: NDArray[Any]) -> float:
    if ours.shape != expected.shape:
        raise ValueError(f"shape {ours.shape} where {expected.shape} is expected")
    return float(np.abs(ours.astype(np.float64) - expected.astype(np.float64)).max())


def _open_times_ms(file: Path) -> NDArray[np.int64]:
    _, *lines = file.read_text(encoding="utf-8").split()
    times = [datetime.fromisoformat(line).replace(tzinfo=UTC) for line in lines]
    return np.array([int(time.timestamp()) * 1000 for time in times], dtype=np.int64)
