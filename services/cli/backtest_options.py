"""The options of `kronos-live backtest`, and what they are called in its help."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from services.cli.common import NumberOrAuto
from shared.klines import Interval
from shared.settings import MODEL_NAMES

UNITS = {"m": 60_000, "h": 3_600_000, "d": 86_400_000}
DAY = click.DateTime(["%Y-%m-%d"])


class Step(click.ParamType[int]):
    """90m, 6h, 1d -> ms."""

    name = "step"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        found = re.fullmatch(r"([1-9]\d{0,4})([mhd])", str(value))
        if not found:
            self.fail(f"{value!r} is no step of time; write one as 90m, 6h or 1d.", param, ctx)
        return int(found[1]) * UNITS[found[2]]


OPTIONS = (
    click.option(
        "--interval",
        type=click.Choice([interval.value for interval in Interval]),
        help="Length of a candle, with SYMBOL. [default: data.interval]",
    ),
    click.option("--from", "first_day", required=True, type=DAY, help="First UTC day forecast."),
    click.option("--to", "last_day", required=True, type=DAY, help="Last UTC day, included."),
    click.option("--learn-from", type=DAY, help="First UTC day that recalibration learns from. [default: --from]"),
    click.option("--every", default="6h", type=Step(), show_default=True, help="Time between origins."),
    click.option(
        "--windows", type=click.IntRange(1), help="At most so many origins, the first of them. [default: all]"
    ),
    click.option("--model", type=click.Choice(MODEL_NAMES), help="[default: model.model_name]"),
    click.option("--paths", type=click.IntRange(2), help="[default: sampling.num_samples]"),
    click.option("--history", type=click.IntRange(64), help="Candles known. [default: data.history_window]"),
    click.option("--horizon", type=click.IntRange(1), help="Candles forecast. [default: data.forecast_horizon]"),
    click.option("--temperature", type=NumberOrAuto(), help="Or auto. [default: sampling.temperature]"),
    click.option("--top-p", type=NumberOrAuto(), help="Or auto. [default: sampling.top_p]"),
    click.option("--jobs", type=click.IntRange(1, 256), help="Processes here that share the cores. [default: 1]"),
    click.option(
        "--workers", is_flag=True, help="Have the workers of the queue compute, when no forecast waits for them."
    ),
    click.option(
        "--out", type=click.Path(file_okay=False, path_type=Path), help="Folder. [default: backtest-SYMBOL-INTERVAL]"
    ),
    click.option("--seed-ledger", is_flag=True, help="Add the entries to the ledger in Redis, marked as backtest."),
    click.option("--json", "as_json", is_flag=True, help="Print the record as JSON."),
)


def backtest_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """All options, in the order in which help shows them."""
    for option in reversed(OPTIONS):
        command = option(command)
    return command
