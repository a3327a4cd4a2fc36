"""`python -m benchmarks.recalibration FOLDER ...`: how recalibrated bands do by rate and unit, on finished backtests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import click
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from services.inference.backtest.run import read_lines
from services.inference.calibration import LEVELS, RECENT, UNIT_LEVEL, BandTracker
from shared.backtest_queue import Line

HELP = """Compare rates and units of spread for the recalibration of bands, walking forward through finished backtests.

\b
  kronos-live backtest BTCUSDT-1h.csv.gz --from 2023-10-01 --to 2024-12-31 --model Kronos-nano --paths 200 --out btc
  python -m benchmarks.recalibration btc

For every folder of `kronos-live backtest` it prints, for each unit and rate, what share of the closes the bands held and
their interval score (1e-4 of the last close; lower is better), over all but the first --skip forecasts. What a forecast
learns from are those whose last candle had closed. Choose on ranges that are not reported.
"""
RATES = (0.01, 0.02, 0.03, 0.05, 0.1)

Floats = NDArray[np.float64]


def _half(line: Line) -> Floats:
    """Half the log width of the raw 80 % band alone; a millionth where it has no width."""
    band = next(band for band in line.forecast.close.bands if band.level == UNIT_LEVEL)
    return np.maximum((np.log(band.upper) - np.log(band.lower)) / 2, 1e-6)


def _recent(line: Line) -> Floats:
    """The std of the log close by recent returns alone."""
    return np.array(next(one.sigma for one in line.forecast.baselines if one.name == RECENT))


UNITS: dict[str, Callable[[Line], Floats]] = {
    "half width": _half,
    "recent std": _recent,
    "both": lambda line: np.hypot(_half(line), _recent(line)),
}


@click.command(help=HELP)
@click.argument("folders", nargs=-1, required=True, type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--skip", default=360, show_default=True, help="Forecasts at the beginning that are not counted.")
def main(folders: tuple[Path, ...], skip: int) -> None:
    for folder in folders:
        lines = sorted(read_lines(folder), key=lambda line: line.forecast.last_open_time_ms)
        table = Table(
            "unit", "rate", *(f"{level} % holds" for level in LEVELS), *(f"score {level}" for level in LEVELS)
        )
        for name, unit in UNITS.items():
            for rate in RATES:
                held, scores = _walk(lines, unit, rate, skip)
                table.add_row(name, f"{rate:g}", *(f"{one:.3f}" for one in held), *(f"{one:.0f}" for one in scores))
        console = Console(width=max(110, Console().width))
        console.print(f"\n{folder}: {len(lines)} forecasts")
        console.print(table)


def _walk(lines: list[Line], unit: Callable[[Line], Floats], rate: float, skip: int) -> tuple[Floats, Floats]:
    """By level: the share of closes held, and the interval score."""
    tracker, closed, held, scores = BandTracker(rate), 0, [], []
    tails = 1 - np.array(LEVELS)[:, None] / 100
    distances = [np.log(line.entry.closes) - np.log(line.forecast.close.median) for line in lines]  # type: ignore[arg-type]
    for place, line in enumerate(lines):
        while lines[closed].entry.scored_at_ms <= line.forecast.open_times_ms[0]:
            tracker.observe(distances[closed] / unit(lines[closed]))
            closed += 1
        factors = tracker.factors()
        if factors is None or place < skip:
            continue
        reach, away = factors * unit(line), np.abs(distances[place])
        held.append(away <= reach)
        # In logs, which for so small moves are shares of the last close.
        scores.append(1e4 * (2 * reach + 2 / tails * np.maximum(away - reach, 0)))
    return np.mean(held, axis=(0, 2)), np.mean(scores, axis=(0, 2))


if __name__ == "__main__":
    main()
