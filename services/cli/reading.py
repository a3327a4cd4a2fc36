"""Looking at what is there: series, queue, forecasts, and their pages."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import click
from rich.console import Console

from services.cli.common import (
    SHOWN_AT_MOST,
    as_json_option,
    errors_in_one_line,
    now_ms,
    print_json,
    show_all_option,
    stores,
)
from services.cli.record_views import show_verdicts
from services.cli.tables import (
    show_failed,
    show_forecast,
    show_ingests,
    show_job,
    show_list,
    show_status,
    show_workers,
)
from shared.errors import KronosLiveError, NotFoundError
from shared.freshness import as_of
from shared.kline_store import SeriesStatus, describe_missing_series
from shared.klines import Interval
from shared.ledger import Ledger
from shared.series_record import SeriesRecord, ledger_in_use, series_record
from shared.settings import Settings, load_settings

RECORDS_WITHIN_S = 3.0


@click.command()
@show_all_option
@as_json_option
@errors_in_one_line
def status(show_all: bool, as_json: bool) -> None:
    """Show the ingested series with their latest forecasts and track records, the queue, the workers and the ingests.

    Where there are many series, those that are not well come first.
    """
    settings = load_settings()
    klines, forecasts, queue = stores(settings)
    now = now_ms()
    series = [as_of(one, now) for one in klines.all_statuses()]
    left: list[SeriesStatus] = []
    if not (show_all or as_json) and len(series) > SHOWN_AT_MOST:
        series.sort(key=_is_well)
        series, left = series[:SHOWN_AT_MOST], series[SHOWN_AT_MOST:]
    latest = {
        (one.symbol, one.interval): forecasts.latest_scheduled(one.symbol, one.interval, one.origin)
        if one.origin
        else None
        for one in series
    }
    waiting, workers = queue.waiting(), sum(not one.silent for one in queue.worker_statuses(now))
    ingests = queue.fetches.ingest_statuses(now)
    records, left_out = records_in_time(forecasts.ledger, series)
    if as_json:
        Console().print_json(
            data={
                "series": [s.model_dump(mode="json") for s in series],
                "latest_forecasts": [f.id for f in latest.values() if f],
                "waiting": waiting,
                "workers": workers,
                "ingests": [one.model_dump(mode="json") for one in ingests],
                "track_records": [_in_short(one) for one in records],
                "track_records_left_out": left_out,
            }
        )
        return
    show_status(series, latest, waiting, workers, ingests, now)
    show_verdicts(records, left_out)
    if left:
        well = sum(map(_is_well, left))
        click.echo(f"{len(left)} more series, {well} of them well: `kronos-live status --all` shows them too.")


def _is_well(series: SeriesStatus) -> bool:
    """Whether its klines are what they should be."""
    return series.state in ("live", "recorded") and not series.problem


def records_in_time(ledger: Ledger, series: Sequence[SeriesStatus]) -> tuple[list[SeriesRecord], list[str]]:
    """Of each series of which anything is scored; and the names of those for which there was no time: a year of an hourly
    series takes seconds, and who asks for the status does not wait a minute.
    """
    found, left_out, until = [], [], time.monotonic() + RECORDS_WITHIN_S
    for one in series:
        name = one.symbol, one.interval, ledger_in_use(one)
        if time.monotonic() > until:
            left_out.append(f"{one.symbol} {one.interval}")
        elif entries := ledger.entries(*name):
            found.append(series_record(*name, entries))
    return found, left_out


def _in_short(found: SeriesRecord) -> dict[str, Any]:
    """What a watchdog needs of a track record."""
    kept = {"forecasts", "needed", "skill", "best_baseline", "verdict", "drift", "skill_drift"}
    record = found.record.model_dump(mode="json", include=kept) if found.record else None
    return {"symbol": found.symbol, "interval": found.interval.value, "origin": found.origin, "record": record}


@click.command()
@as_json_option
@errors_in_one_line
def workers(as_json: bool) -> None:
    """Show the workers: what each is at, since when, on which device, and when it last gave a sign of life; and the ingests
    that would fetch klines which nobody keeps up.

    Ends with 1 where nobody is there to compute, so that a watchdog need not read the table.

    \b
    kronos-live workers --json | jq -r '.[].jobs[]'
    """
    queue, now = stores(load_settings())[2], now_ms()
    found = queue.worker_statuses(now)
    if as_json:
        print_json(found, as_list=True)
    else:
        if found:
            show_workers(found)
        show_ingests(queue.fetches.ingest_statuses(now))
    if all(one.silent for one in found):
        gone = "No worker is alive" if not found else "No worker has given a sign of life for a minute or longer"
        raise KronosLiveError(f"{gone}; start one with `kronos-live worker`.")


@click.command("list")
@click.option("--symbol", help="As Binance writes it; left out: the configured one.")
@click.option(
    "--interval", type=click.Choice([interval.value for interval in Interval]), help="Left out: the configured one."
)
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1, 200), help="So many at most.")
@as_json_option
@errors_in_one_line
def list_forecasts(symbol: str | None, interval: str | None, limit: int, as_json: bool) -> None:
    """List the newest forecasts of a series, those of the schedule and those that people asked for."""
    settings = load_settings()
    klines, forecasts, _ = stores(settings)
    named, length = symbol or settings.data.symbol, Interval(interval or settings.data.interval)
    found = forecasts.newest(named, length, limit)
    if not found and klines.status(named, length) is None:
        known = [as_of(one, now_ms()) for one in klines.all_statuses()]
        raise NotFoundError(describe_missing_series(named, length, known), field="symbol")
    if as_json:
        print_json(found, as_list=True)
    elif found:
        show_list(found)
    else:
        click.echo(f"There is no forecast of {named} {length} yet.")


@click.command()
@click.argument("forecast_id", metavar="ID")
@as_json_option
@errors_in_one_line
def show(forecast_id: str, as_json: bool) -> None:
    """Show a forecast by its id, or how it stands while it is on its way.

    The ids are those of `kronos-live list`, of `kronos-live forecast` and of the page's address.
    """
    _, forecasts, queue = stores(load_settings())
    if not forecasts.exists(forecast_id):
        job = queue.status(forecast_id)
        if job.state != "finished":  # else it landed between the two looks
            print_json([job], as_list=False) if as_json else show_job(job)
            return
    found = forecasts.load(forecast_id)
    print_json([found], as_list=False) if as_json else show_forecast(found)


@click.command()
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1, 1000), help="So many at most.")
@as_json_option
@errors_in_one_line
def failed(limit: int, as_json: bool) -> None:
    """List what has failed for good and is not tried again, the newest first, each with its reason.

    Reasons are kept for queue.failure_ttl. Who asks for such a forecast again has it tried anew.

    \b
    kronos-live failed --json | jq -r '.[].id'
    """
    found = stores(load_settings())[2].failed(limit)
    if as_json:
        print_json(found, as_list=True)
    elif found:
        show_failed(found)
    else:
        click.echo("Nothing has failed for good lately.")


@click.command("open")
@click.argument("forecast_id", metavar="[ID]", required=False)
@click.option("--print", "only_print", is_flag=True, help="Print the address instead of opening it.")
@errors_in_one_line
def open_page(forecast_id: str | None, only_print: bool) -> None:
    """Open the page in a browser, or a forecast's own page.

    The address is that of web.host and web.port, as this machine sees it.
    """
    settings = load_settings()
    if forecast_id is not None:
        _, forecasts, queue = stores(settings)
        if not forecasts.exists(forecast_id):
            queue.status(forecast_id)  # raises NotFoundError where it never was
    address = _address(settings) + (f"/forecasts/{forecast_id}" if forecast_id else "/")
    if only_print or click.launch(address) != 0:
        click.echo(address)


def _address(settings: Settings) -> str:
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.web.host, settings.web.host)  # noqa: S104 - not listening
    return f"http://[{host}]:{settings.web.port}" if ":" in host else f"http://{host}:{settings.web.port}"
