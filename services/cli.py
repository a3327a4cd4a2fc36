"""`kronos-live ...`: the one door for people and for compose. A service's code is imported only when it is started."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from shared.adhoc_forecasts import ask_for_forecast, read_wishes
from shared.errors import KronosLiveError
from shared.forecast_queue import ForecastQueue
from shared.forecast_store import ForecastStore
from shared.forecasts import Forecast, Probability, band_name, why_no_amplification
from shared.freshness import as_of, ingest_is_silent
from shared.kline_store import KlineStore, SeriesStatus
from shared.klines import Interval, utc
from shared.prices import price
from shared.redis_connection import connect
from shared.settings import MODEL_NAMES, Settings, load_settings

POLL_S = 0.2


def errors_in_one_line(command: Callable[..., Any]) -> Callable[..., Any]:
    """What goes wrong in a foreseen way is told in one sentence on standard error, with exit code 1."""

    @wraps(command)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        try:
            return command(*args, **kwargs)
        except KronosLiveError as error:
            click.echo(f"kronos-live: {error}", err=True)
            sys.exit(1)

    return wrapped


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="kronos-live")
def main() -> None:
    """Probabilistic kline forecasts with the Kronos foundation model.

    Three services meet in Redis: `ingest` fetches klines and enqueues a forecast each time a candle closes, any number
    of `worker`s compute them, `web` shows them. Settings come from config/config.yaml, from the file that KRONOS_CONFIG
    names, and from the environment (KRONOS_DATA__SYMBOL=ETHUSDT).
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


@main.command()
@click.option("--symbol", help="As Binance writes it, such as BTCUSDT.")
@click.option("--interval", type=click.Choice([interval.value for interval in Interval]), help="Length of a candle.")
@click.option("--horizon", type=int, help="Candles ahead.")
@click.option("--history", type=int, help="Candles that the model reads.")
@click.option("--num-samples", type=int, help="Paths to draw.")
@click.option("--temperature", type=float, help="Above 0; below 1 sharpens and narrows the bands.")
@click.option("--top-p", type=float, help="Share of probability kept, above 0, to 1.")
@click.option("--top-k", type=int, help="Tokens kept, 0 for no limit.")
@click.option("--seed", type=int, help="The same seed on the same snapshot gives the same paths.")
@click.option("--model", help=f"One of {', '.join(MODEL_NAMES)}.")
@click.option("--wait", is_flag=True, help="Wait for the forecast, with a progress bar, and show it.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON on standard output; progress goes to standard error.")
@click.option("--timeout", default=600.0, show_default=True, help="Seconds to wait at most, with --wait.")
@errors_in_one_line
def forecast(wait: bool, as_json: bool, timeout: float, **wishes: Any) -> None:
    """Enqueue one forecast; what is left out is as configured.

    \b
    kronos-live forecast --symbol BTCUSDT --horizon 24 --wait
    kronos-live forecast --num-samples 200 --temperature 1 --top-p 1 --wait --json | jq .upside
    """
    settings = load_settings()
    klines, forecasts, queue = _stores(settings)
    asked = read_wishes(settings, {name: value for name, value in wishes.items() if value is not None})
    forecast_id = ask_for_forecast(settings, klines, queue, asked, _now_ms())
    if not wait:
        click.echo(queue.status(forecast_id).model_dump_json() if as_json else forecast_id)
        return
    done = _wait_for(forecast_id, forecasts, queue, timeout)
    if as_json:
        click.echo(done.model_dump_json())
    else:
        _show_forecast(done)


@main.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@errors_in_one_line
def status(as_json: bool) -> None:
    """Show the ingested series, the queue, the workers and the latest forecasts."""
    settings = load_settings()
    klines, forecasts, queue = _stores(settings)
    now_ms = _now_ms()
    series = [as_of(one, now_ms) for one in klines.all_statuses()]
    latest = {
        (one.symbol, one.interval): forecasts.latest_scheduled(one.symbol, one.interval, one.origin)
        if one.origin
        else None
        for one in series
    }
    waiting, workers = queue.waiting(), queue.workers()
    if as_json:
        Console().print_json(
            data={
                "series": [s.model_dump(mode="json") for s in series],
                "latest_forecasts": [f.id for f in latest.values() if f],
                "waiting": waiting,
                "workers": workers,
            }
        )
        return
    _show_status(series, latest, waiting, workers, now_ms)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _stores(settings: Settings) -> tuple[KlineStore, ForecastStore, ForecastQueue]:
    redis = connect(settings.redis)
    return (
        KlineStore(redis, settings.retention.snapshots_per_series),
        ForecastStore(redis, settings.retention.forecasts_per_series),
        ForecastQueue(redis, settings.queue),
    )


def _wait_for(forecast_id: str, forecasts: ForecastStore, queue: ForecastQueue, timeout_s: float) -> Forecast:
    """Follow a forecast with a progress bar on standard error. Raises KronosLiveError where it fails or takes too long."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed}/{task.total}"),
        TimeElapsedColumn(),
    )
    deadline = time.monotonic() + timeout_s
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("waiting", total=None)
        while not forecasts.exists(forecast_id):
            job = queue.status(forecast_id)
            if job.state == "failed":
                raise KronosLiveError(f"Forecast {forecast_id} failed: {job.error}")
            if time.monotonic() > deadline:
                raise KronosLiveError(
                    f"Forecast {forecast_id} is still {job.state} after {timeout_s:g} s; it stays in the queue "
                    f"({queue.workers()} workers are alive): ask for it later or start a worker."
                )
            if job.progress:
                bar.update(task, description=job.progress.phase, completed=job.progress.done, total=job.progress.total)
            elif job.state == "queued":
                bar.update(task, description=f"queued, {job.position or 0} before it")
            time.sleep(POLL_S)
        bar.update(task, description="done", total=1, completed=1)
    return forecasts.load(forecast_id)


def _show_forecast(done: Forecast) -> None:
    made_by = done.provenance
    table = Table(
        title=f"{done.request.symbol} {done.request.interval}, {done.request.horizon} candles ahead: {done.id}"
    )
    for column in ("open time (UTC)", "mean", "median", *map(band_name, done.close.bands)):
        table.add_column(column, justify="right")
    for step, open_time in enumerate(done.open_times_ms):
        bands = (f"{price(band.lower[step])} to {price(band.upper[step])}" for band in done.close.bands)
        table.add_row(utc(open_time), price(done.close.mean[step]), price(done.close.median[step]), *bands)
    console = Console()
    console.print(table)
    console.print(f"Upside: {_in_words(done.upside)}")
    amplified = done.volatility_amplification
    console.print(f"Volatility amplification: {_in_words(amplified) if amplified else why_no_amplification(done)}")
    console.print(
        f"Last close {price(done.last_close)} from {made_by.venue} ({made_by.origin.upper()}); model {made_by.model.name} "
        f"({made_by.model.source.upper()}); seed {made_by.seed}; {made_by.timings_s['total']:.2f} s. Not investment advice."
    )


def _in_words(share: Probability) -> str:
    return f"{share.value:.1%} ({share.lower:.1%} to {share.upper:.1%}, {share.paths} of {share.of} paths)"


def _show_status(
    series: list[SeriesStatus],
    latest: dict[tuple[str, Interval], Forecast | None],
    waiting: int,
    workers: int,
    now_ms: int,
) -> None:
    table = Table(title=f"{workers} workers alive, {waiting} forecasts waiting")
    table.add_column("series")
    table.add_column("state", no_wrap=True, min_width=len("SIMULATED"))  # said in full, however narrow the terminal is
    for column in ("venue", "last candle", "next fetch", "latest forecast", "made"):
        table.add_column(column, overflow="fold")
    for one in series:
        made = latest[one.symbol, one.interval]
        table.add_row(
            f"{one.symbol} {one.interval}",
            one.state.upper(),
            one.venue or "none",
            utc(one.last_open_time_ms) if one.last_open_time_ms is not None else "none yet",
            ("overdue since " if ingest_is_silent(one, now_ms) else "") + utc(one.next_fetch_at_ms),
            made.id if made else "none yet",
            f"{(now_ms / 1000 - made.created_at.timestamp()) / 60:.0f} min ago" if made else "",
        )
    console = Console()
    console.print(table)
    for one in series:
        if one.problem:
            console.print(f"{one.symbol} {one.interval}: {one.problem}")
    if not series:
        console.print("No series is ingested yet: start `kronos-live ingest`.")


if __name__ == "__main__":
    main()
