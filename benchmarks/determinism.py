"""`python -m benchmarks.determinism`: whether a seeded forecast has the same tokens whatever is computed beside it."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import Any, get_args

import click
import numpy as np
import torch
from rich.console import Console
from rich.progress import track

import services.inference  # noqa: F401 - before torch: it says how torch's threads wait
from benchmarks.models import SIZES, random_modules, random_walk
from services.inference.engine import pack
from services.inference.memory import keep_freed_memory
from services.inference.path_sampler import PathSampler, SampledPaths
from services.inference.precisions import choose_kernels, choose_precision
from services.inference.token_choice import Choice
from shared.settings import Dtype, KernelChoice

HELP = """Draw seeded forecasts alone, in panels, in small groups of paths and with one thread, and count the
tokens that are not those of the forecast alone. Random weights; klines of random walks.
"""


@click.command(help=HELP)
@click.option("--model", default="Kronos-small", type=click.Choice(list(SIZES)), show_default=True)
@click.option("--forecasts", default=200, type=click.IntRange(1), show_default=True)
@click.option("--history", default=360, type=click.IntRange(64), show_default=True)
@click.option("--horizon", default=24, type=click.IntRange(1), show_default=True)
@click.option("--paths", default=30, type=click.IntRange(1), show_default=True)
@click.option("--panel", default=8, type=click.IntRange(2), show_default=True, help="Series side by side.")
@click.option("--group", default=7, type=click.IntRange(1), show_default=True, help="Most paths side by side.")
@click.option("--dtype", default="float32", type=click.Choice(get_args(Dtype)), show_default=True)
@click.option("--kernels", default="auto", type=click.Choice(get_args(KernelChoice)), show_default=True)
@click.option("--temperature", default=1.0, show_default=True)
@click.option("--top-p", default=0.9, show_default=True)
@click.option("--json", "as_json", is_flag=True)
@torch.inference_mode()
def main(
    model: str, forecasts: int, history: int, horizon: int, paths: int, panel: int, as_json: bool, **asked: Any
) -> None:
    keep_freed_memory()
    limit = SIZES[model].max_context
    kernels = choose_kernels(asked["kernels"], torch.device("cpu"))
    precision = choose_precision(asked["dtype"], torch.device("cpu"), kernels)
    engine = pack(*random_modules(model), precision, limit, kernels)
    choice = Choice(asked["temperature"], 0, asked["top_p"])
    contexts = [random_walk(history, horizon, limit, seed) for seed in range(forecasts)]

    def draw(size: int, group: int | None = None) -> Iterator[SampledPaths]:
        for first in _shown(range(0, forecasts, size)):
            seeds = range(first, min(first + size, forecasts))
            panel = [contexts[seed] for seed in seeds]
            yield from PathSampler(engine, panel, choice, seeds, most_at_once=group).draw(paths)

    alone = _tokens(draw(1))
    ways = {
        f"in panels of {panel}": _tokens(draw(panel)),
        f"in groups of at most {asked['group']} paths": _tokens(draw(1, asked["group"])),
    }
    torch.set_num_threads(1)
    ways["with one thread"] = _tokens(draw(1))

    measured = {
        "model": model,
        "dtype": engine.precision.name,
        "kernels": engine.kernels_name,
        "forecasts": forecasts,
        "tokens": int(alone.size),
        "different": {way: int((tokens != alone).sum()) for way, tokens in ways.items()},
        "forecasts_that_differ": {
            way: int((tokens != alone).any(axis=(1, 2, 3)).sum()) for way, tokens in ways.items()
        },
    }
    if as_json:
        click.echo(json.dumps(measured))
        return
    click.echo(f"{model}, {forecasts} forecasts of {paths} paths and {horizon} steps: {alone.size:,} tokens")
    for way, different in measured["different"].items():
        click.echo(f"  {way:32s} {different} tokens differ, in {measured['forecasts_that_differ'][way]} forecasts")


def _tokens(drawn: Iterator[SampledPaths]) -> np.ndarray[Any, np.dtype[np.int64]]:
    """[forecasts, 2, paths, horizon]."""
    return np.stack([np.stack((paths.s1, paths.s2)) for paths in drawn])


def _shown(firsts: range) -> Any:
    return track(firsts, "drawing", console=Console(file=sys.stderr), transient=True)


if __name__ == "__main__":
    sys.exit(main())
