"""`kronos-live once`: one fetch, one forecast, its files, and an end."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import click
from pydantic import SecretStr

from services.cli.common import errors_in_one_line
from services.cli.phases import Phases
from services.cli.run_options import config_option, folder_option, redis_option
from services.cli.stopping import stopped_in_one_sentence
from services.cli.tables import show_forecast
from shared.errors import RequestError
from shared.logs import quiet_logs
from shared.settings import Settings, is_told, load_settings

NEEDED = ("torch", "httpx", "flask")  # what no single image of a service has together


@click.command()
@click.option(
    "--out",
    default=Path("forecast"),
    show_default=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for forecast.json, paths.csv and, with '.[publish]' installed, the static site.",
)
@folder_option
@redis_option
@config_option
@click.option("--json", "as_json", is_flag=True, help="Print the forecast, warnings, files and seconds as JSON.")
@errors_in_one_line
def once(out: Path, folder: Path, redis_url: str | None, config_file: Path | None, as_json: bool) -> None:
    """Fetch the newest candles of data.symbol, forecast, write the files, and end.

    Nothing has to run beforehand and nothing runs afterwards. A Redis is started for the run, unless --redis names one or
    redis.url is set. What is stored is what the services would have stored: a later run on the same folder scores the
    forecasts of earlier ones, and `kronos-live run` goes on from them.

    Each phase is told on standard error, with its seconds. Where no venue can be reached, the klines are simulated
    (data.allow_simulated): this is said first, SIMULATED DATA stands in forecast.json, and the exit code is 0. Without
    them, or once the folder has had real ones, the run ends with 1 and with each venue's reason.

    \b
    kronos-live once
    KRONOS_DATA__SYMBOL=ETHUSDT kronos-live once --out eth --json | jq .forecast.upside
    """
    if missing := [name for name in NEEDED if find_spec(name) is None]:
        raise RequestError(
            f"A single run needs {', '.join(missing)}, which is not installed here: pip install '.[ingest,inference,web,demo]'."
        )
    quiet_logs(logging.ERROR)  # what is amiss is said in sentences, once
    phases = Phases()
    settings = load_settings(config_file)
    with (
        stopped_in_one_sentence(lambda: "nothing is left running; what was stored before stays."),
        _with_redis(settings, redis_url, config_file, folder) as settings,
    ):
        from services.single_run import run_once  # it brings torch

        finished = run_once(settings, out, phases.announce)
    for warning in finished.warnings:
        phases.say(f"WARNING: {warning}")
    if as_json:
        said = {
            "forecast": finished.forecast.model_dump(mode="json"),
            "warnings": finished.warnings,
            "files": [str(file) for file in finished.files],
            "seconds": phases.seconds,
        }
        click.echo(json.dumps(said))
    else:
        show_forecast(finished.forecast)


@contextmanager
def _with_redis(settings: Settings, url: str | None, config_file: Path | None, folder: Path) -> Iterator[Settings]:
    """The settings with the address of the Redis that is told, else of one for this run."""
    from services.local_redis import redis_for_this_run

    if url is None and is_told("redis", "url", config_file):
        yield settings
    elif url is not None:
        yield _at(settings, url)
    else:
        with redis_for_this_run(
            folder, "wait until it has ended, or name another --folder, or its Redis by --redis"
        ) as ours:
            yield _at(settings, ours)


def _at(settings: Settings, url: str) -> Settings:
    return settings.model_copy(update={"redis": settings.redis.model_copy(update={"url": SecretStr(url)})})
