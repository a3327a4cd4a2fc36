"""`kronos-live ...`: the one door for people and for compose. A service's code is imported only when it is started."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from services.cli.alerting import alerts
from services.cli.alive import alive
from services.cli.asking import cancel, forecast
from services.cli.backtesting import backtest
from services.cli.common import errors_in_one_line
from services.cli.completion import completion
from services.cli.doctor import doctor
from services.cli.importing import import_history
from services.cli.past_klines import klines
from services.cli.publishing import export, publish
from services.cli.reading import failed, list_forecasts, open_page, show, status, workers
from services.cli.records import ledger, outcome, track_record
from services.cli.training import fine_tune, train
from shared.settings import load_settings


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="kronos-live")
def main() -> None:
    """Probabilistic kline forecasts with the Kronos foundation model.

    Three services meet in Redis: `ingest` fetches klines and enqueues a forecast each time a candle closes, any number
    of `worker`s compute them, `web` shows them. Settings come from config/config.yaml, from the file that KRONOS_CONFIG
    names, and from the environment (KRONOS_DATA__SYMBOL=ETHUSDT).

    \b
    A command ends with 0 when all is well, else with
      1  a forecast failed, or something else that is told on standard error
      2  what was asked for, or a setting, is not as it may be
      3  there is no such forecast or series
      4  the queue is full: later is fine
      5  Redis does not answer
    """


@main.command()
@errors_in_one_line
def ingest() -> None:
    """Fetch klines on schedule, store snapshots, enqueue forecasts."""
    from services.ingest.main import run

    run(load_settings())


@main.command()
@errors_in_one_line
def worker() -> None:
    """Load the model once, then compute forecasts from the queue.

    Start as many as there is work for; they share the cores of their machine. SIGTERM lets the running forecast end.
    """
    from services.inference.worker import run

    run(load_settings())


@main.command()
@errors_in_one_line
def web() -> None:
    """Serve the page and the API on web.host and web.port."""
    from services.web.main import run

    run(load_settings())


@main.command()
@click.option(
    "--port", default=8000, show_default=True, type=click.IntRange(1, 65535), help="Port of the page on 127.0.0.1."
)
@click.option(
    "--folder",
    default=Path(".demo"),
    show_default=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="Its data.",
)
@errors_in_one_line
def demo(port: int, folder: Path) -> None:
    """Run everything on this machine, Redis included, until Ctrl+C."""
    from services.demo import run_demo

    sys.exit(run_demo(folder, port))


for command in (
    forecast,
    cancel,
    list_forecasts,
    show,
    outcome,
    open_page,
    track_record,
    ledger,
    export,
    publish,
    backtest,
    import_history,
    klines,
    train,
    fine_tune,
    status,
    workers,
    failed,
    doctor,
    alerts,
    alive,
    completion,
):
    main.add_command(command)
