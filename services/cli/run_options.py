"""What commands have in common that run the house on this machine: where their data is, which Redis, which settings."""

from __future__ import annotations

from pathlib import Path

import click

folder_option = click.option(
    "--folder",
    default=Path(".kronos-live"),
    show_default=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="Data of the Redis that is started: klines, forecasts and scores of all runs, of `once` and of `run` alike.",
)
redis_option = click.option("--redis", "redis_url", help="Address of a running Redis, used instead of starting one.")
config_option = click.option(
    "--config",
    "config_file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="File of settings, as KRONOS_CONFIG names one.",
)
