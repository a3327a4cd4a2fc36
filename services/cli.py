"""`kronos-live ...`: the one door for people and for compose. A service's code is imported only when it is started."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Sequence
from functools import wraps
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from shared.adhoc_forecasts import ask_for_forecasts, read_wishes
from shared.errors import KronosLiveError
from shared.forecast_queue import ForecastQueue
from shared.forecast_store import ForecastStore
from shared.forecasts import Contract, Forecast, JobStatus, Probability, band_name, why_no_amplification
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
@click.option("--symbol", "symbols", multiple=True, help="As Binance writes it, such as BTCUSDT; several make a panel.")
@click.option("--interval", type=click.Choice([interval.value for interval in Interval]), help="Length of a candle.")
@click.option("--horizon", type=int, help="Candles ahead.")
@click.option("--history", type=int, help="Candles that the model reads.")
@click.option("--num-samples", type=int, help="Paths to draw.")
@click.option("--temperature", type=float, help="Above 0; below 1 sharpens and narrows the bands.")
@click.option("--top-p", type=float, help="Share of probability kept, above 0, to 1.")
@click.option("--top-k", type=int, help="Tokens kept, 0 for no limit.")
@click.option("--target-error", type=float, help="Draw until the upside probability is this sure, such as 0.05.")
@click.option("--seed", type=int, help="The same seed on the same snapshot gives the same paths.")
@click.option("--model", help=f"One of {', '.join(MODEL_NAMES)}.")
@click.option("--wait", is_flag=True, help="Wait for the forecast, with a progress bar, and show it.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON on standard output; progress goes to standard error.")
@click.option("--timeout", default=600.0, show_default=True, help="Seconds to wait at most, with --wait.")
@errors_in_one_line
def forecast(symbols: tuple[str, ...], wait: bool, as_json: bool, timeout: float, **wishes: Any) -> None:
    """Enqueue a forecast of each symbol; what is left out is as configured.

    \b
    kronos-live forecast --symbol BTCUSDT --horizon 24 --wait
    kronos-live forecast --symbol BTCUSDT --symbol ETHUSDT --wait --json | jq .[].upside
    kronos-live forecast --num-samples 200 --temperature 1 --top-p 1 --wait --json | jq .upside
    """
    settings = load_settings()
    klines, forecasts, queue = _stores(settings)
    wishes |= {"symbols": list(symbols)} if len(symbols) > 1 else {"symbol": next(iter(symbols), None)}
    asked = read_wishes(settings, {name: value for name, value in wishes.items() if value is not None})
    ids = ask_for_forecasts(settings, klines, queue, asked, _now_ms())
    if wait:
        _show_ended(_wait_for(ids, forecasts, queue, timeout), as_json)
    elif as_json:
        _print_json([queue.status(one) for one in ids], as_list=len(ids) > 1)
    else:
        click.echo("\n".join(ids))


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


def _wait_for(
    ids: Sequence[str], forecasts: ForecastStore, queue: ForecastQueue, timeout_s: float
) -> list[Forecast | str]:
    """Follow forecasts with a progress bar each, on standard error. Returns each forecast, or why there is none."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed}/{task.total}"),
        TimeElapsedColumn(),
    )
    deadline = time.monotonic() + timeout_s
    ended: dict[str, Forecast | str] = {}
    with Progress(*columns, console=Console(stderr=True)) as bar:
        tasks = {one: bar.add_task("waiting", total=None) for one in ids}
        while True:
            for one in [one for one in ids if one not in ended]:
                if forecasts.exists(one):
                    ended[one] = forecasts.load(one)
                    bar.update(tasks[one], description="done", total=1, completed=1)
                    continue
                job = queue.status(one)
                _show_progress(bar, tasks[one], job)
                if problem := _why_not(job, queue, timeout_s if time.monotonic() > deadline else None):
                    ended[one] = problem
            if len(ended) == len(ids):
                return [ended[one] for one in ids]
            time.sleep(POLL_S)


def _show_progress(bar: Progress, task: TaskID, job: JobStatus) -> None:
    if job.progress:
        bar.update(task, description=job.progress.phase, completed=job.progress.done, total=job.progress.total)
    elif job.state == "queued":
        bar.update(task, description=f"queued, {job.position or 0} before it")


def _why_not(job: JobStatus, queue: ForecastQueue, waited_s: float | None) -> str | None:
    """Why a forecast will not be waited for any longer, if so; `waited_s` are the seconds it had, once they are over."""
    if job.state == "failed":
        return f"Forecast {job.id} failed: {job.error}"
    if waited_s is None:
        return None
    return (
        f"Forecast {job.id} is still {job.state} after {waited_s:g} s; it stays in the queue "
        f"({queue.workers()} workers are alive): ask for it later or start a worker."
    )


def _show_ended(ended: Sequence[Forecast | str], as_json: bool) -> None:
    """Show what was made. Raises KronosLiveError that says what was not."""
    done = [one for one in ended if isinstance(one, Forecast)]
    if as_json and (done or len(ended) > 1):
        _print_json(done, as_list=len(ended) > 1)
    elif not as_json:
        for one in done:
            _show_forecast(one)
    if problems := [one for one in ended if isinstance(one, str)]:
        raise KronosLiveError(" ".join(problems))


def _print_json(records: Sequence[Contract], *, as_list: bool) -> None:
    """One record as it is, or a list of them where several were asked for."""
    if as_list:
        click.echo(json.dumps([record.model_dump(mode="json") for record in records]))
    else:
        click.echo(records[0].model_dump_json())


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
