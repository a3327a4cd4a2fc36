"""`python -m benchmarks.sampling`: how long a forecast takes, how near that is to the machine's ceiling, and how much
faster than the slow obvious way, all in one run.
"""

from __future__ import annotations

import json
import platform
import resource
import sys
from collections.abc import Callable
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any, get_args

import click
import torch

import services.inference  # noqa: F401 - before torch: it says how torch's threads wait
from benchmarks.ceiling import Ceiling, Workload, ceilings
from benchmarks.models import SIZES, random_modules, random_walk
from benchmarks.reference import reference_seconds
from services.inference.checkpoints import PUBLISHED_MODELS
from services.inference.context import Context
from services.inference.engine import Engine, pack
from services.inference.memory import keep_freed_memory
from services.inference.model.kronos import Kronos
from services.inference.model.tokenizer import KronosTokenizer
from services.inference.path_sampler import PHASES, PathSampler, SamplingOptions
from services.inference.precisions import choose_kernels, choose_precision
from services.inference.weights import load_kronos, load_tokenizer
from shared.settings import Dtype, KernelChoice

HELP = """Time forecasts of one model on klines of a random walk.

  python -m benchmarks.sampling --random-weights --against-reference
  python -m benchmarks.sampling --model Kronos-base --random-weights --dtype bfloat16 --json

Speed does not depend on what the weights are, so random ones of the published sizes do; without --random-weights they are
read from --local-dir. The ratio to the reference compares two times of this very run: shared machines are noisy, so
compare ratios, not seconds of two runs. gemm_ceiling_share is the time of the same matrix products alone, back to back,
over the time of the phase: weights_only of those with weights, the other with as many multiplications as attention has
besides, counted at the same pace (benchmarks/ceiling.py).
"""


@click.command(help=HELP)
@click.option("--model", default="Kronos-small", type=click.Choice(list(SIZES)), show_default=True)
@click.option("--random-weights", is_flag=True, help="Random weights of that size instead of --local-dir.")
@click.option("--local-dir", type=click.Path(path_type=Path), default=Path("../Kronos_model"), show_default=True)
@click.option("--history", default=360, type=click.IntRange(64), show_default=True, help="Candles read.")
@click.option("--horizon", default=24, type=click.IntRange(2), show_default=True, help="Candles ahead.")
@click.option("--paths", default=30, type=click.IntRange(1), show_default=True)
@click.option(
    "--series", default=1, type=click.IntRange(1), show_default=True, help="Forecasts side by side (a panel)."
)
@click.option("--dtype", default="float32", type=click.Choice(get_args(Dtype)), show_default=True)
@click.option(
    "--kernels", default="auto", type=click.Choice(get_args(KernelChoice)), show_default=True, help="As model.kernels."
)
@click.option("--temperature", default=0.6, show_default=True)
@click.option("--top-p", default=0.9, show_default=True)
@click.option("--repeat", default=5, type=click.IntRange(1), show_default=True, help="Runs; the median counts.")
@click.option("--threads", default=0, type=click.IntRange(0), help="0 is what torch chooses.")
@click.option("--against-reference", is_flag=True, help="Time the slow obvious way as well (a minute or more).")
@click.option("--reference-steps", default=4, type=click.IntRange(1), show_default=True, help="Of its steps, timed.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
def main(as_json: bool, threads: int, **asked: Any) -> None:
    keep_freed_memory()
    torch.set_num_threads(threads or torch.get_num_threads())
    measured = measure(**asked)
    if as_json:
        click.echo(json.dumps(measured))
    else:
        _print(measured)


def measure(
    *,
    model: str,
    random_weights: bool,
    local_dir: Path,
    history: int,
    horizon: int,
    paths: int,
    series: int,
    dtype: Dtype,
    kernels: KernelChoice,
    temperature: float,
    top_p: float,
    repeat: int,
    against_reference: bool,
    reference_steps: int,
) -> dict[str, Any]:
    """What the command prints, as plain values; seconds unless the name says otherwise."""
    max_context = SIZES[model].max_context

    def modules() -> tuple[Kronos, KronosTokenizer]:
        return random_modules(model) if random_weights else _load(local_dir, model)

    engine = _packed(modules, dtype, kernels, max_context)
    contexts = [random_walk(history, horizon, max_context, seed) for seed in range(series)]
    options = SamplingOptions(paths, temperature, top_k=0, top_p=top_p, seed=1)
    _run(engine, contexts, options)  # once before it is timed
    peak_rss_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    work = Workload(
        engine.kronos.config,
        engine.tokenizer.config,
        engine.precision,
        engine.kronos.kernels,
        series,
        contexts[0].history_used,
        horizon,
        paths,
    )
    bare = ceilings(work)
    runs, bare_seconds = _timed_in_turn(engine, contexts, options, bare, repeat)
    phases = {phase: median(run[phase] for run in runs) for phase in PHASES}
    weights_only = {phase: median(bare_seconds[phase]) / phases[phase] for phase in PHASES}
    measured = {
        "model": model,
        "weights": "random" if random_weights else "local",
        "processor": processor(),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "dtype": engine.precision.name,
        "kernels": engine.kernels_name,
        "history": contexts[0].history_used,
        "horizon": horizon,
        "paths": paths,
        "series": series,
        "median_seconds": median(run["total"] for run in runs),
        "all_seconds": [run["total"] for run in runs],
        "phases": phases,
        "peak_rss_mb": round(peak_rss_mb, 1),
        "gemm_ceiling_share": {
            phase: share * (1 + bare[phase].attention_share) for phase, share in weights_only.items()
        },
        "gemm_ceiling_share_weights_only": weights_only,
    }
    if against_reference:
        measured["reference_seconds"] = series * reference_seconds(
            *modules(), contexts[0], options, max_context=max_context, timed_steps=min(reference_steps, horizon)
        )
        measured["reference_steps_timed"] = min(reference_steps, horizon)
        measured["ratio"] = measured["reference_seconds"] / measured["median_seconds"]
    return measured


def _packed(
    modules: Callable[[], tuple[Kronos, KronosTokenizer]], dtype: Dtype, kernels: KernelChoice, max_context: int
) -> Engine:
    """The modules themselves are let go again, as the worker does."""
    with torch.inference_mode():
        cpu = torch.device("cpu")
        chosen = choose_kernels(kernels, cpu)
        return pack(*modules(), choose_precision(dtype, cpu, chosen), max_context, chosen)


def _load(local_dir: Path, model: str) -> tuple[Kronos, KronosTokenizer]:
    known = PUBLISHED_MODELS[model]
    return load_kronos(local_dir / known.model.name), load_tokenizer(local_dir / known.tokenizer.name)


def _timed_in_turn(
    engine: Engine, contexts: list[Context], options: SamplingOptions, bare: dict[str, Ceiling], repeat: int
) -> tuple[list[dict[str, float]], dict[str, list[float]]]:
    """Forecast and bare products in turn, so that whatever else the machine does disturbs both alike."""
    runs: list[dict[str, float]] = []
    ceiling_runs: dict[str, list[float]] = {phase: [] for phase in bare}
    for turn in range(repeat + 1):
        run = _run(engine, contexts, options)
        ceiling_run = {phase: ceiling.seconds() for phase, ceiling in bare.items()}
        if turn:  # the first time each product meets its rows, oneDNN makes a kernel for it
            runs.append(run)
            for phase, seconds in ceiling_run.items():
                ceiling_runs[phase].append(seconds)
    return runs, ceiling_runs


def _run(engine: Engine, contexts: list[Context], options: SamplingOptions) -> dict[str, float]:
    """Seconds by phase, and in all."""
    started = perf_counter()
    seeds = [options.seed + index for index in range(len(contexts))]
    sampler = PathSampler(engine, contexts, options.choice, seeds)
    sampler.draw(options.num_samples)
    return sampler.seconds | {"total": perf_counter() - started}


def _print(measured: dict[str, Any]) -> None:
    click.echo(f"processor  {measured['processor']}")
    click.echo(
        f"torch      {measured['torch']}, {measured['threads']} threads, {measured['dtype']}, {measured['kernels']}"
    )
    click.echo(
        f"forecast   {measured['model']} ({measured['weights']} weights), history {measured['history']}, "
        f"{measured['horizon']} steps, {measured['paths']} paths"
        + (f", {measured['series']} series side by side" if measured["series"] > 1 else "")
    )
    if "ratio" in measured:
        click.echo(
            f"reference  {measured['reference_seconds']:8.2f} s   ({measured['reference_steps_timed']} of "
            f"{measured['horizon']} steps timed, scaled to all)"
        )
    runs = ", ".join(f"{seconds:.3f}" for seconds in measured["all_seconds"])
    click.echo(f"sampler    {measured['median_seconds']:8.3f} s   (median of {runs})")
    for phase, seconds in measured["phases"].items():
        share, weights = (measured[name][phase] for name in ("gemm_ceiling_share", "gemm_ceiling_share_weights_only"))
        click.echo(f"  {phase:10s} {seconds:7.3f} s   matrix products alone {share:4.0%}, with weights {weights:4.0%}")
    click.echo(f"memory     {measured['peak_rss_mb']:8.1f} MB  (peak resident, before the reference)")
    if "ratio" in measured:
        click.echo(f"ratio      {measured['ratio']:8.1f}")


def processor() -> str:
    listed = Path("/proc/cpuinfo")
    lines = listed.read_text(encoding="utf-8").splitlines() if listed.exists() else []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, "") or platform.processor() or platform.machine()


if __name__ == "__main__":
    sys.exit(main())
