"""`kronos-live run`: all services on this machine, for as long as it is wanted."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from services.cli.common import errors_in_one_line
from services.cli.run_options import config_option, folder_option, redis_option


@click.command()
@click.option("--workers", default=1, show_default=True, type=click.IntRange(1, 64), help="They share the cores.")
@folder_option
@redis_option
@config_option
@errors_in_one_line
def run(workers: int, folder: Path, redis_url: str | None, config_file: Path | None) -> None:
    """Keep forecasting on schedule: Redis, ingest, workers and the page, until Ctrl+C.

    By the settings, so the page is on web.host and web.port. A Redis is started with them, unless --redis names one or
    redis.url is set. When one of them ends by itself all end, and the exit code is its own, so that whatever runs this
    can start it anew; data stay in the folder.

    \b
    kronos-live run
    KRONOS_PROFILE=production KRONOS_DATA__SERIES=ETHUSDT:1h kronos-live run --workers 2
    """
    from services.house import run_services

    # The services are processes of their own, which read the environment.
    if config_file is not None:
        os.environ["KRONOS_CONFIG"] = str(config_file)
    if redis_url is not None:
        os.environ["KRONOS_REDIS__URL"] = redis_url
    sys.exit(run_services(folder, workers))
