"""`python -m benchmarks.profiles`: what each model costs with each profile, as a table for README: how long it takes to load,
how long a forecast takes, and the most memory that it holds.

Each is measured in a process of its own, so that no other's memory counts: a forecaster loads a checkpoint of the published
size with random weights (speed does not depend on what they are) from a folder, as `kronos-live once` does, and forecasts a
random walk of the profile's history with its paths, as often as asked.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import click
import torch

import services.inference  # noqa: F401 - before torch does its work: it says how torch's threads wait
from benchmarks.models import SIZES, random_modules, random_walk_klines
from benchmarks.sampling import processor
from services.inference.checkpoints import PUBLISHED_MODELS
from services.inference.forecaster import Forecaster, Task
from services.inference.memory import keep_freed_memory
from services.inference.processors import cores_available
from services.inference.training.checkpoint_folder import write_checkpoint
from shared.forecasts import ForecastOverrides, build_request
from shared.klines import Interval, KlineWindow
from shared.settings import load_settings, profiles

MEGABYTE_KIB = 1024  # ru_maxrss is in KiB on Linux


@click.command(help=__doc__)
@click.option("--model", "models", multiple=True, type=click.Choice(list(SIZES)), help="All of them unless named.")
@click.option("--profile", "chosen", multiple=True, type=click.Choice(profiles()), help="All of them unless named.")
@click.option("--repeat", default=5, type=click.IntRange(1), show_default=True, help="Forecasts; the median counts.")
@click.option("--json", "as_json", is_flag=True, help="Print a list of JSON objects.")
@click.option("--one", hidden=True, type=(str, str), help="A model's folder and name, measured in this process.")
def main(
    models: tuple[str, ...], chosen: tuple[str, ...], repeat: int, as_json: bool, one: tuple[str, str] | None
) -> None:
    if one:
        click.echo(json.dumps(measure(Path(one[0]), one[1], repeat)))
        return
    measured = []
    with tempfile.TemporaryDirectory() as folder:
        for model in models or SIZES:
            _write_checkpoint(Path(folder), model)
            measured += [_in_its_own_process(folder, model, profile, repeat) for profile in chosen or profiles()]
    click.echo(json.dumps(measured) if as_json else table(measured))


def measure(folder: Path, model: str, repeat: int) -> dict[str, Any]:
    """What one model costs with the profile of KRONOS_PROFILE in this process; seconds, and MB (2^20 bytes) at most."""
    keep_freed_memory()
    delivered = load_settings()
    own = delivered.model.model_copy(update={"model_name": model, "local_dir": folder, "allow_bundled": False})
    settings = delivered.model_copy(update={"model": own})
    forecaster = Forecaster(settings)
    forecaster.use_threads(settings.worker.threads or cores_available())
    began = perf_counter()
    loaded = forecaster.load()
    load_seconds = perf_counter() - began
    times, values = random_walk_klines(settings.data.history_window + settings.data.volatility_window)
    window = KlineWindow("BTCUSDT", Interval.H1, "random walk", "recorded", times, values)
    seconds = []
    for turn in range(repeat + 1):
        request = build_request(settings, ForecastOverrides(), "none", scheduled=False, seed=turn)
        began = perf_counter()
        forecaster.forecast(Task(f"profile-{turn}", request, window), lambda *_: None)
        seconds.append(perf_counter() - began)
    return {
        "model": model,
        "profile": os.environ.get("KRONOS_PROFILE"),
        "paths": settings.sampling.num_samples,
        "history": settings.data.history_window,
        "horizon": settings.data.forecast_horizon,
        "load_seconds": load_seconds,
        "first_seconds": seconds[0],  # in which everything is met for the first time
        "forecast_seconds": median(seconds[1:]),
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / MEGABYTE_KIB,
        "processor": processor(),
        "threads": torch.get_num_threads(),
        "dtype": loaded.engine.precision.name,
        "kernels": loaded.engine.kernels_name,
    }


def table(measured: list[dict[str, Any]]) -> str:
    """README's table, and below it on what all of it was measured."""
    lines = ["| model | profile | load | forecast, the first | later | memory at most |", "|---|---|---|---|---|---|"]
    for one in measured:
        asked = f"{one['profile']} ({one['paths']} paths, {one['history']} candles)"
        lines.append(
            f"| {one['model']} | {asked} | {one['load_seconds']:.1f} s | {one['first_seconds']:.2f} s | "
            f"{one['forecast_seconds']:.2f} s | {one['peak_mb']:.0f} MB |"
        )
    on = measured[0]
    made_with = ", ".join(sorted({f"{one['dtype']}, {one['kernels']} kernels" for one in measured}))
    lines.append(
        f"\n{on['processor']}, {on['threads']} threads, {made_with}, {on['horizon']} candles ahead "
        "(`python -m benchmarks.profiles`)."
    )
    return "\n".join(lines)


def _write_checkpoint(folder: Path, model: str) -> None:
    kronos, tokenizer = random_modules(model)
    write_checkpoint(kronos, folder / model)
    write_checkpoint(tokenizer, folder / PUBLISHED_MODELS[model].tokenizer.name)


def _in_its_own_process(folder: str, model: str, profile: str, repeat: int) -> dict[str, Any]:
    click.echo(f"{model}, {profile} ...", err=True)
    measured = subprocess.run(
        [sys.executable, "-m", "benchmarks.profiles", "--one", folder, model, "--repeat", str(repeat)],
        env={**os.environ, "KRONOS_PROFILE": profile},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return dict(json.loads(measured.stdout.splitlines()[-1]))


if __name__ == "__main__":
    main()
