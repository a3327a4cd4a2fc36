"""What the commands share: the stores, the clock, errors in one line with an exit code, and JSON."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any

import click

from shared.contract import Contract
from shared.errors import (
    KronosLiveError,
    NotFoundError,
    QueueFullError,
    RequestError,
    SettingsError,
    StoreUnavailableError,
    UnknownSeriesError,
)
from shared.forecast_queue import ForecastQueue
from shared.forecast_store import ForecastStore
from shared.kline_store import KlineStore
from shared.redis_connection import connect
from shared.settings import Settings

# The first that fits counts; click itself ends with 2 where a command line makes no sense.
EXIT_CODES: tuple[tuple[type[KronosLiveError], int], ...] = (
    (NotFoundError, 3),
    (UnknownSeriesError, 3),
    (RequestError, 2),
    (SettingsError, 2),
    (QueueFullError, 4),
    (StoreUnavailableError, 5),
    (KronosLiveError, 1),
)

SHOWN_AT_MOST = 20  # of what is alike, where one Redis may have thousands

as_json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, of all that there is.")
show_all_option = click.option(
    "--all", "show_all", is_flag=True, help=f"Show every series, also where they are more than {SHOWN_AT_MOST}."
)


def errors_in_one_line(command: Callable[..., Any]) -> Callable[..., Any]:
    """What goes wrong in a foreseen way is told in one sentence on standard error, with an exit code that says what kind it
    was (EXIT_CODES)."""

    @wraps(command)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        try:
            return command(*args, **kwargs)
        except KronosLiveError as error:
            click.echo(f"kronos-live: {error}", err=True)
            sys.exit(next(code for kind, code in EXIT_CODES if isinstance(error, kind)))

    return wrapped


class NumberOrAuto(click.ParamType[Any]):
    """A number, or auto: what suits the model. Bounds are for whoever reads the wish."""

    name = "number|auto"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value == "auto" or isinstance(value, float):
            return value
        try:
            return float(value)
        except ValueError:
            self.fail(f"{value!r} is neither a number nor auto.", param, ctx)


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def stores(settings: Settings) -> tuple[KlineStore, ForecastStore, ForecastQueue]:
    redis = connect(settings.redis)
    return (
        KlineStore(redis, settings.retention.snapshots_per_series),
        ForecastStore(redis, settings.retention.forecasts_per_series),
        ForecastQueue(redis, settings.queue),
    )


def print_json(records: Sequence[Contract], *, as_list: bool) -> None:
    """One record as it is, or a list of them where several were asked for."""
    if as_list:
        click.echo(json.dumps([record.model_dump(mode="json") for record in records]))
    else:
        click.echo(records[0].model_dump_json())
