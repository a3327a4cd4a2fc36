"""`python -m benchmarks.dtypes`: whether forecasts in bfloat16 or int8 are those of float32, to within sampling error."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from datetime import UTC
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from scipy.stats import binom

import services.inference  # noqa: F401 - before torch: it says how torch's threads wait
from benchmarks.models import SIZES, random_modules
from services.inference.backtest.origins import Origin, find_origins
from services.inference.checkpoints import BUNDLED, BUNDLED_DIR, PUBLISHED_MODELS
from services.inference.context import Context, prepare_context
from services.inference.engine import Engine, Precision, pack
from services.inference.engine.place import Span
from services.inference.memory import keep_freed_memory
from services.inference.model.kronos import Kronos
from services.inference.model.tokenizer import KronosTokenizer
from services.inference.path_sampler import SamplingOptions, sample_paths
from services.inference.precisions import choose_kernels, precisions_of
from services.inference.token_choice import Choice, next_token_distribution
from services.inference.training.kline_files import read_stretches
from services.inference.weights import load_kronos, load_tokenizer
from shared.klines import CLOSE, Interval

HELP = """Compare float32 with the coarser dtypes on past klines, at many origins.

  python -m benchmarks.dtypes --klines ../shared/klines/BTCUSDT-1h.csv.gz --from 2025-01-01 --to 2025-06-30
  python -m benchmarks.dtypes --klines ... --from ... --to ... --model Kronos-small --random-weights

Next tokens: the total variation distance between the distributions of float32 and of the dtype, for the first coarse and
the first fine token after each origin; beside it, how far the shares in a sample of --paths draws lie from the very
distribution they are drawn from.

Forecasts: float32 is run with two seeds, the dtype with the second. "apart" is the mean distance of the 10, 50 and 90 %
quantiles of the closes from those of the first float32 run, in units of the distance that the second float32 run has:
1.00 where only sampling error is left. "shift" is the mean signed distance of the medians between dtype and float32 with
the same seed, in standard errors over the origins; beyond 3 it would not be chance. "wrong" is the share of origins at
which a two-sample Kolmogorov-Smirnov test at 5 % tells the last closes of the dtype from those of the first float32 run.
"""
QUANTILES = (0.1, 0.5, 0.9)
KS_5_PERCENT = 1.358  # critical value of the two-sample statistic times sqrt(n m / (n + m)), large samples
HISTORY, HORIZON, MAX_CONTEXT = 360, 24, 512

Floats = NDArray[np.float64]


@click.command(help=HELP)
@click.option("--klines", required=True, multiple=True, type=click.Path(path_type=Path), help="File; may be repeated.")
@click.option("--from", "first_day", required=True, type=click.DateTime(["%Y-%m-%d"]))
@click.option("--to", "last_day", required=True, type=click.DateTime(["%Y-%m-%d"]))
@click.option("--every", default=18, show_default=True, help="Candles between origins.")
@click.option("--model", default="Kronos-nano", type=click.Choice(["Kronos-nano", *SIZES]), show_default=True)
@click.option("--random-weights", is_flag=True, help="Random weights of the model's size.")
@click.option("--local-dir", type=click.Path(path_type=Path), default=Path("../Kronos_model"), show_default=True)
@click.option("--paths", default=100, type=click.IntRange(20), show_default=True)
@click.option("--temperature", default=1.0, show_default=True)
@click.option("--top-p", default=1.0, show_default=True)
@click.option("--next-tokens-only", is_flag=True, help="Leave out the forecasts, which take minutes.")
@click.option("--json", "as_json", is_flag=True)
@torch.inference_mode()
def main(as_json: bool, **asked: Any) -> None:
    keep_freed_memory()
    kronos, tokenizer = _modules(asked["model"], asked["random_weights"], asked["local_dir"])
    kernels = choose_kernels("auto", torch.device("cpu"))
    names = precisions_of(torch.device("cpu"), kernels)
    engines = {name: pack(kronos, tokenizer, Precision(name), MAX_CONTEXT, kernels) for name in names}
    contexts = [context for file in asked["klines"] for context in _contexts(file, asked)]
    if not contexts:
        raise click.UsageError("These files have no origin in that range; choose other days.")
    choice = Choice(asked["temperature"], 0, asked["top_p"])
    measured = {
        "model": asked["model"],
        "weights": "random" if asked["random_weights"] else "trained",
        "origins": len(contexts),
        "paths": asked["paths"],
        "temperature": choice.temperature,
        "top_p": choice.top_p,
        "next_tokens": _next_tokens(engines, contexts, choice, asked["paths"]),
        "forecasts": {} if asked["next_tokens_only"] else _forecasts(engines, contexts, choice, asked["paths"]),
    }
    click.echo(json.dumps(measured) if as_json else _described(measured))


def _modules(model: str, random_weights: bool, local_dir: Path) -> tuple[Kronos, KronosTokenizer]:
    if random_weights:
        return random_modules(model)
    known, folder = (BUNDLED, BUNDLED_DIR) if model == BUNDLED.model.name else (PUBLISHED_MODELS[model], local_dir)
    return load_kronos(folder / known.model.name), load_tokenizer(folder / known.tokenizer.name)


def _contexts(file: Path, asked: dict[str, Any]) -> list[Context]:
    from_ms, to_ms = (int(asked[day].replace(tzinfo=UTC).timestamp() * 1000) for day in ("first_day", "last_day"))
    stretches = read_stretches(file, Interval.H1)
    every_ms = asked["every"] * Interval.H1.ms
    origins = find_origins(
        stretches,
        Interval.H1,
        from_ms=from_ms,
        until_ms=to_ms + Interval.D1.ms,
        every_ms=every_ms,
        known=HISTORY,
        horizon=HORIZON,
    )
    return [_context(origin) for origin in origins]


def _context(origin: Origin) -> Context:
    return prepare_context(
        origin.known.values,
        origin.known.open_times_ms,
        interval_ms=Interval.H1.ms,
        horizon=HORIZON,
        max_context=MAX_CONTEXT,
        overflow="trim",
    )


def _next_tokens(
    engines: dict[Any, Engine], contexts: Sequence[Context], choice: Choice, paths: int
) -> dict[str, dict[str, float]]:
    """Mean total variation distances from float32's distributions, by dtype; and those of a sample."""
    exact_engine, *others = engines.items()
    distances: dict[str, list[list[float]]] = {name: [] for name, _ in others} | {"sample": []}
    for context in _shown(contexts, "next tokens"):
        exact = _first_distributions(exact_engine[1], context, choice, given=None)
        given = int(exact[0].argmax())
        for name, engine in others:
            coarse = _first_distributions(engine, context, choice, given)
            distances[name].append([_distance(one, other) for one, other in zip(exact, coarse, strict=True)])
        distances["sample"].append([_distance_of_a_sample(one, paths) for one in exact])
    means = {name: np.mean(values, axis=0) for name, values in distances.items()}
    return {name: {"s1": float(mean[0]), "s2": float(mean[1])} for name, mean in means.items()}


def _first_distributions(engine: Engine, context: Context, choice: Choice, given: int | None) -> tuple[Floats, Floats]:
    """Of the coarse token, and of the fine one after the coarse token `given` (else the likeliest)."""
    kronos = engine.kronos
    s1, s2 = engine.tokenizer.encode(torch.from_numpy(context.normalised)[None])
    time = kronos.embed_time(torch.from_numpy(context.past_time_features)[None])
    caches = kronos.new_caches(1)
    hidden = kronos.prefill(s1, s2, time, caches).expand(4, -1).contiguous()  # products of one row are another kernel
    caches.reserve(4, 1)
    coarse = next_token_distribution(kronos.s1_logits(hidden), choice)
    token = coarse.argmax(dim=-1) if given is None else torch.full((4,), given)
    fine = next_token_distribution(kronos.s2_logits(hidden, token, caches, Span(0, 0)), choice)
    return coarse[0].double().numpy(), fine[0].double().numpy()


def _distance(one: Floats, other: Floats) -> float:
    """Total variation."""
    return float(np.abs(one - other).sum() / 2)


def _distance_of_a_sample(distribution: Floats, draws: int) -> float:
    """Expected total variation between a distribution and the shares in a sample of it: half the sum of the mean absolute
    deviations of binomial shares (de Moivre's formula)."""
    likeliest = np.floor(draws * distribution) + 1
    deviations = 2 * likeliest * (1 - distribution) * binom.pmf(likeliest, draws, distribution) / draws
    return float(deviations.sum() / 2)


def _forecasts(
    engines: dict[Any, Engine], contexts: Sequence[Context], choice: Choice, paths: int
) -> dict[str, dict[str, float]]:
    exact, *others = engines.items()
    first = _closes(exact[1], contexts, choice, paths, seed=1, label="float32")
    second = _closes(exact[1], contexts, choice, paths, seed=2, label="float32, another seed")
    yardstick = _apart(second, first)
    measured = {"float32, another seed": {"apart": 1.0, "shift": 0.0, "wrong": _told_apart(second, first)}}
    for name, engine in others:
        closes = _closes(engine, contexts, choice, paths, seed=2, label=name)
        measured[name] = {
            "apart": _apart(closes, first) / yardstick,
            "shift": _shift(closes, second),
            "wrong": _told_apart(closes, first),
        }
    return measured


def _closes(
    engine: Engine, contexts: Sequence[Context], choice: Choice, paths: int, *, seed: int, label: str
) -> Floats:
    """[origins, paths, horizon], in units of the window's standard deviation."""
    return np.stack(
        [
            sample_paths(
                engine,
                context,
                SamplingOptions(paths, choice.temperature, choice.top_k, choice.top_p, seed * 1_000_003 + number),
            ).normalised[:, :, CLOSE]
            for number, context in enumerate(_shown(contexts, label))
        ]
    ).astype(np.float64)


def _apart(ours: Floats, theirs: Floats) -> float:
    """Mean distance of the quantiles, over origins and steps."""
    return float(np.abs(np.quantile(ours, QUANTILES, axis=1) - np.quantile(theirs, QUANTILES, axis=1)).mean())


def _shift(ours: Floats, theirs: Floats) -> float:
    """Of the medians, averaged over the steps, in standard errors over the origins."""
    moved = (np.median(ours, axis=1) - np.median(theirs, axis=1)).mean(axis=1)
    return float(moved.mean() / (moved.std(ddof=1) / np.sqrt(len(moved))))


def _told_apart(ours: Floats, theirs: Floats) -> float:
    """Share of origins at which the last closes differ by a two-sample Kolmogorov-Smirnov test at 5 %."""
    paths = ours.shape[1]
    critical = KS_5_PERCENT * np.sqrt(2 / paths)
    return float(np.mean([_ks(one[:, -1], other[:, -1]) > critical for one, other in zip(ours, theirs, strict=True)]))


def _ks(one: Floats, other: Floats) -> float:
    everywhere = np.concatenate((one, other))
    shares = [np.searchsorted(np.sort(sample), everywhere, side="right") / len(sample) for sample in (one, other)]
    return float(np.abs(shares[0] - shares[1]).max())


def _shown(contexts: Sequence[Context], label: str) -> Any:
    return track(contexts, label, console=Console(file=sys.stderr), transient=True)


def _described(measured: dict[str, Any]) -> str:
    lines = [
        f"{measured['model']} ({measured['weights']} weights), {measured['origins']} origins, {measured['paths']} paths, "
        f"temperature {measured['temperature']}, top-p {measured['top_p']}",
        "next tokens, total variation distance from float32 (mean)",
    ]
    for name, distance in measured["next_tokens"].items():
        label = f"a sample of {measured['paths']}" if name == "sample" else name
        lines.append(f"  {label:22s} coarse {distance['s1']:.5f}   fine {distance['s2']:.5f}")
    if measured["forecasts"]:
        lines.append("forecasts beside a float32 run")
    for name, found in measured["forecasts"].items():
        lines.append(
            f"  {name:22s} apart {found['apart']:.3f}   shift {found['shift']:+.2f}   wrong {found['wrong']:.3f}"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
