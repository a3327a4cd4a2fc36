"""`python -m benchmarks.training`: what precision, torch.compile, threads and Muon cost or gain in a training step."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import click
import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table

import services.inference  # noqa: F401 - before torch: it says how torch's threads wait
from benchmarks.models import random_walk_klines
from services.inference.model.kronos import Kronos
from services.inference.model.tokenizer import KronosTokenizer
from services.inference.training.fit_model import fit_model
from services.inference.training.fit_tokenizer import fit_tokenizer
from services.inference.training.kline_files import Stretch
from services.inference.training.optimisation import REPORT_EVERY, Progress
from services.inference.training.recipe import Recipe
from services.inference.training.sizes import NANO_MODEL, NANO_TOKENIZER
from services.inference.training.windows import WindowSource

HELP = """Time a training step of Kronos-nano and of its tokenizer by precision, torch.compile and optimiser, in turns.

Every way runs --rounds times, one after the other, so that what else the machine does falls on all of them. The first ten
steps of a run (where compiling happens) are timed by themselves. Klines of a random walk: a step's time does not depend on them.
"""
RECIPE = Recipe(steps=0, batch=8, learning_rate=2e-3, seed=1, muon=True)
WINDOW, HISTORY = 384, (128, 360)


@dataclass(frozen=True)
class Way:
    name: str
    recipe: Recipe
    compiled: bool = False


WAYS = (
    Way("float32", RECIPE),
    Way("bfloat16", replace(RECIPE, bfloat16=True)),
    Way("float32, compiled", RECIPE, compiled=True),
    Way("bfloat16, compiled", replace(RECIPE, bfloat16=True), compiled=True),
    Way("float32, AdamW alone", replace(RECIPE, muon=False)),
)
Fit = Callable[[Way, Recipe, Path, Callable[[Progress], None]], object]


@dataclass
class Timed:
    """Seconds a step, by round, after the first ten; and those that the first ten took together."""

    steps: list[float] = field(default_factory=list)
    first: list[float] = field(default_factory=list)


@click.command(help=HELP)
@click.option(
    "--steps", default=30, type=click.IntRange(REPORT_EVERY), show_default=True, help="Timed, after the first ten."
)
@click.option("--rounds", default=3, type=click.IntRange(1), show_default=True)
@click.option("--device", default="cpu", show_default=True, help="cpu, cuda or cuda:N.")
@click.option("--threads", type=click.IntRange(1), help="CPU threads. [default: torch's choice]")
@click.option("--json", "as_json", is_flag=True)
def main(steps: int, rounds: int, device: str, threads: int | None, as_json: bool) -> None:
    if threads:
        torch.set_num_threads(threads)
    fits = _fits(torch.device(device))
    timed = {(part, way.name): Timed() for part in fits for way in WAYS}
    turns = [(part, way) for _ in range(rounds) for part in fits for way in WAYS]
    for part, way in track(turns, console=Console(stderr=True), disable=not Console(stderr=True).is_terminal):
        first, later = _time(fits[part], way, steps)
        timed[part, way.name].first.append(first)
        timed[part, way.name].steps.append(later)
    if as_json:
        click.echo(json.dumps({f"{part}, {way}": vars(one) for (part, way), one in timed.items()}))
        return
    table = Table("what", "way", "s a step (median)", "times float32's", "first ten, s")
    for (part, name), one in timed.items():
        ratio = np.median(np.array(one.steps) / timed[part, WAYS[0].name].steps)
        table.add_row(part, name, f"{np.median(one.steps):.3f}", f"{ratio:.2f}", f"{np.median(one.first):.1f}")
    Console().print(table)


def _time(fit: Fit, way: Way, steps: int) -> tuple[float, float]:
    """Seconds of the first ten steps, and of each one after them."""
    moments = [time.perf_counter()]
    with TemporaryDirectory() as folder:
        recipe = replace(way.recipe, steps=REPORT_EVERY + steps)
        fit(way, recipe, Path(folder) / "state.safetensors", lambda _: moments.append(time.perf_counter()))
    return moments[1] - moments[0], (moments[-1] - moments[1]) / steps


def _fits(device: torch.device) -> dict[str, Fit]:
    source = WindowSource([Stretch("RANDOM", *random_walk_klines(4 * WINDOW))], WINDOW)
    torch.manual_seed(0)
    tokenizer = KronosTokenizer(NANO_TOKENIZER).to(device)

    def of_tokenizer(way: Way, recipe: Recipe, state: Path, report: Callable[[Progress], None]) -> object:
        new = KronosTokenizer(NANO_TOKENIZER).to(device)
        return fit_tokenizer(new, source, HISTORY, recipe, state, report, compiled=way.compiled)

    def of_model(way: Way, recipe: Recipe, state: Path, report: Callable[[Progress], None]) -> object:
        new = Kronos(NANO_MODEL).to(device)
        return fit_model(new, tokenizer, source, HISTORY, recipe, state, report, compiled=way.compiled)

    return {"tokenizer": of_tokenizer, "model": of_model}


if __name__ == "__main__":
    main()
