"""`kronos-live forecast` and `cancel`: ask for forecasts, wait for them, and call them off."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, TextIO

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from services.cli.common import NumberOrAuto, as_json_option, errors_in_one_line, now_ms, print_json, stores
from services.cli.tables import show_forecast
from shared.adhoc_forecasts import ask_for_forecasts, cancel_forecast, read_wishes
from shared.errors import KronosLiveError, RequestError
from shared.forecast_queue import ForecastQueue
from shared.forecast_store import ForecastStore
from shared.forecasts import Forecast, JobStatus
from shared.klines import Interval
from shared.settings import MODEL_NAMES, load_settings
from shared.uploaded_klines import read_csv

POLL_S = 0.2


@click.command()
@click.option(
    "--symbol",
    "symbols",
    multiple=True,
    help="As Binance writes it, such as BTCUSDT, ingested or not; several make a panel.",
)
@click.option("--interval", type=click.Choice([interval.value for interval in Interval]), help="Length of a candle.")
@click.option("--horizon", type=int, help="Candles ahead.")
@click.option("--history", type=int, help="Candles that the model reads.")
@click.option("--num-samples", type=int, help="Paths to draw.")
@click.option("--temperature", type=NumberOrAuto(), help="Above 0; below 1 sharpens and narrows the bands; or auto.")
@click.option("--top-p", type=NumberOrAuto(), help="Share of probability kept, above 0, to 1; or auto.")
@click.option("--top-k", type=int, help="Tokens kept, 0 for no limit.")
@click.option("--target-error", type=float, help="Draw until the upside probability is this sure, such as 0.05.")
@click.option("--seed", type=int, help="The same seed on the same snapshot gives the same paths.")
@click.option("--model", help=f"One of {', '.join(MODEL_NAMES)}.")
@click.option(
    "--csv",
    "file",
    type=click.File(encoding="utf-8-sig"),
    help="Candles of your own instead of a symbol's: open_time (UTC ms, or ISO 8601 with its offset as in "
    "2025-01-01T00:00:00Z), open, high, low, close, volume and, if known, amount; - reads them from standard input.",
)
@click.option("--wait", is_flag=True, help="Wait for the forecast, with a progress bar, and show it.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON on standard output; progress goes to standard error.")
@click.option("--timeout", default=600.0, show_default=True, help="Seconds to wait at most, with --wait.")
@errors_in_one_line
def forecast(
    symbols: tuple[str, ...], file: TextIO | None, wait: bool, as_json: bool, timeout: float, **wishes: Any
) -> None:
    """Enqueue a forecast of each symbol; what is left out is as configured.

    Of a symbol that nobody ingests, a running ingest fetches the klines first.

    \b
    kronos-live forecast --symbol BTCUSDT --horizon 24 --wait
    kronos-live forecast --symbol BTCUSDT --symbol ETHUSDT --wait --json | jq .[].upside
    kronos-live forecast --csv my.csv --horizon 12 --wait
    kronos-live forecast --num-samples 200 --temperature 1 --top-p 1 --wait --json | jq .upside
    """
    settings = load_settings()
    klines, forecasts, queue = stores(settings)
    wishes |= {"symbols": list(symbols)} if len(symbols) > 1 else {"symbol": next(iter(symbols), None)}
    if file is not None:
        wishes["klines"] = _candles(file)
    asked = read_wishes(settings, {name: value for name, value in wishes.items() if value is not None})
    accepted = ask_for_forecasts(settings, klines, forecasts, queue, asked, now_ms())
    ids = [one.forecast_id for one in accepted]
    for one in accepted:
        if one.reused:
            click.echo(f"{one.forecast_id} was asked for before on this candle; name a --seed for another.", err=True)
    if wait:
        _show_ended(_wait_for(ids, forecasts, queue, timeout), as_json)
    elif as_json:
        print_json([_how_it_stands(one, forecasts, queue) for one in ids], as_list=len(ids) > 1)
    else:
        click.echo("\n".join(ids))


@click.command()
@click.argument("forecast_ids", metavar="ID...", nargs=-1, required=True)
@as_json_option
@errors_in_one_line
def cancel(forecast_ids: tuple[str, ...], as_json: bool) -> None:
    """Cancel forecasts that wait or run.

    One that waits leaves the queue at once; the worker of one that runs stops within moments, unless it draws others
    beside it. Nothing of a cancelled forecast is stored.
    """
    _, forecasts, queue = stores(load_settings())
    cancelled = [cancel_forecast(forecasts, queue, one) for one in forecast_ids]
    if as_json:
        print_json(cancelled, as_list=len(cancelled) > 1)
    else:
        click.echo("\n".join(f"{one.id} is cancelled." for one in cancelled))


def _candles(file: TextIO) -> list[dict[str, object]]:
    try:
        return read_csv(file.read())
    except UnicodeDecodeError as error:
        raise RequestError(f"{file.name} is not text in UTF-8: {error.reason} at byte {error.start}.") from None


def _how_it_stands(forecast_id: str, forecasts: ForecastStore, queue: ForecastQueue) -> JobStatus:
    """Also of one that is finished, of which the queue need not know any more."""
    return JobStatus(id=forecast_id, state="finished") if forecasts.exists(forecast_id) else queue.status(forecast_id)


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
    if job.progress and job.state == "queued":
        bar.update(task, description=job.progress.phase)
    elif job.progress:
        bar.update(task, description=job.progress.phase, completed=job.progress.done, total=job.progress.total)
    elif job.state == "queued":
        bar.update(task, description=f"queued, {job.position or 0} before it")


def _why_not(job: JobStatus, queue: ForecastQueue, waited_s: float | None) -> str | None:
    """Why a forecast will not be waited for any longer, if so; `waited_s` are the seconds it had, once they are over."""
    if job.state == "failed":
        return f"Forecast {job.id} failed: {job.error}"
    if job.state == "cancelled":
        return f"Forecast {job.id} is cancelled: {job.error}"
    if waited_s is None:
        return None
    if job.progress and job.state == "queued":
        return (
            f"Forecast {job.id} is still {job.progress.phase} after {waited_s:g} s; it stays there ({queue.fetches.ingests()} "
            f"ingests are alive): ask for it later or start `kronos-live ingest`."
        )
    return (
        f"Forecast {job.id} is still {job.state} after {waited_s:g} s; it stays in the queue "
        f"({queue.workers_of(job.lane)} workers of it are alive): ask for it later or start `{queue.worker_command(job.lane)}`."
    )


def _show_ended(ended: Sequence[Forecast | str], as_json: bool) -> None:
    """Show what was made. Raises KronosLiveError that says what was not."""
    done = [one for one in ended if isinstance(one, Forecast)]
    if as_json and (done or len(ended) > 1):
        print_json(done, as_list=len(ended) > 1)
    elif not as_json:
        for one in done:
            show_forecast(one)
    if problems := [one for one in ended if isinstance(one, str)]:
        raise KronosLiveError(" ".join(problems))
