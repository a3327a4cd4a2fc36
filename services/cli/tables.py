"""Forecasts and series as tables for people."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from rich.console import Console
from rich.table import Table

from shared.failed_jobs import FailedJob
from shared.forecasts import Forecast, JobStatus, Probability, band_name, why_no_amplification
from shared.freshness import ingest_is_silent
from shared.kline_store import SeriesStatus
from shared.klines import Interval, utc
from shared.prices import price
from shared.queue_overview import LoadedModel, WorkerStatus
from shared.record_tables import Rows


def show_forecast(done: Forecast) -> None:
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
        f"Last close {price(done.last_close)} from {made_by.venue} ({_origin(done)}); model {made_by.model.name} "
        f"({made_by.model.source.upper()}); seed {made_by.seed}; {made_by.timings_s['total']:.2f} s. Not investment advice."
    )


def _origin(forecast: Forecast) -> str:
    """Of its klines; what was fetched for a forecast alone is not kept up by anybody."""
    return forecast.provenance.origin.upper() + (", FETCHED ONCE" if forecast.request.fetched_by else "")


def _in_words(share: Probability) -> str:
    return f"{share.value:.1%} ({share.lower:.1%} to {share.upper:.1%}, {share.paths} of {share.of} paths)"


def show_status(
    series: list[SeriesStatus],
    latest: dict[tuple[str, Interval], Forecast | None],
    waiting: int,
    workers: int,
    ingests: Sequence[WorkerStatus],
    now_ms: int,
) -> None:
    alive = sum(not one.silent for one in ingests)
    table = Table(title=f"{workers} workers alive, {waiting} forecasts waiting; {alive} ingests alive")
    table.add_column("series")
    table.add_column("state", no_wrap=True, min_width=len("SIMULATED"))  # said in full, however narrow the terminal is
    for column in ("venue", "last candle", "last fetch", "next fetch", "latest forecast", "made"):
        table.add_column(column, overflow="fold")
    for one in series:
        made = latest[one.symbol, one.interval]
        table.add_row(
            f"{one.symbol} {one.interval}",
            one.state.upper(),
            one.venue or "none",
            utc(one.last_open_time_ms) if one.last_open_time_ms is not None else "none yet",
            utc(one.checked_at_ms),
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


def show_workers(workers: Sequence[WorkerStatus]) -> None:
    """One line for each; a worker that has fallen silent is not called busy or idle, since nobody knows."""
    table = Table()
    table.add_column("worker", overflow="fold")
    table.add_column("state", no_wrap=True, min_width=len("SILENT"))
    for column in ("queues", "computes", "model", "device, dtype, kernels", "done, failed"):
        table.add_column(column, overflow="fold")
    for column in ("since (UTC)", "last sign of life"):
        table.add_column(column, no_wrap=True)
    for one in workers:
        table.add_row(
            one.name,
            "SILENT" if one.silent else one.state,
            ", ".join(one.queues) or "not told",
            ", ".join(one.jobs) or "nothing",
            _model_in_words(one.model),
            ", ".join((one.model.device, one.model.dtype, one.model.kernels)) if one.model else "not told",
            f"{one.finished}, {one.failed}",
            f"{one.since:%Y-%m-%d %H:%M}",
            f"{timedelta(seconds=round(one.heartbeat_age_s))} ago",
        )
    Console().print(table)


def show_ingests(ingests: Sequence[WorkerStatus]) -> None:
    """One line for each that takes fetches; the series that it keeps up are told by `kronos-live status`."""
    if not ingests:
        Console().print(
            "No ingest is alive: what nobody keeps up is fetched by none. Start one with `kronos-live ingest`."
        )
        return
    table = Table()
    table.add_column("ingest", overflow="fold")
    table.add_column("state", no_wrap=True, min_width=len("SILENT"))
    for column in ("fetches", "done, failed"):
        table.add_column(column, overflow="fold")
    for column in ("since (UTC)", "last sign of life"):
        table.add_column(column, no_wrap=True)
    for one in ingests:
        table.add_row(
            one.name,
            "SILENT" if one.silent else one.state,
            ", ".join(one.jobs) or "nothing",
            f"{one.finished}, {one.failed}",
            f"{one.since:%Y-%m-%d %H:%M}",
            f"{timedelta(seconds=round(one.heartbeat_age_s))} ago",
        )
    Console().print(table)


def _model_in_words(model: LoadedModel | None) -> str:
    if model is None:
        return "not told"
    return f"{model.name} ({model.source}{f', for {model.stands_in_for}' if model.stands_in_for else ''})"


def show_failed(jobs: Sequence[FailedJob]) -> None:
    """One line for each, in the order given."""
    table = Table()
    table.add_column("failed (UTC)", no_wrap=True)
    for column in ("id", "tries", "reason"):
        table.add_column(column, overflow="fold")
    for one in jobs:
        table.add_row(f"{one.failed_at:%Y-%m-%d %H:%M}", one.id, str(one.tries), one.reason)
    Console().print(table)


def show_list(forecasts: Sequence[Forecast]) -> None:
    """One line for each forecast, in the order given."""
    table = Table()
    for column in (
        "made (UTC)",
        "id",
        "series",
        "last close",
        "median at the end",
        "80 % band",
        "upside",
        "what it is",
    ):
        table.add_column(column, overflow="fold")
    for one in forecasts:
        band = next((band for band in one.close.bands if band.level == 80), one.close.bands[-1])
        table.add_row(
            f"{one.created_at:%Y-%m-%d %H:%M}",
            one.id,
            f"{one.request.symbol} {one.request.interval}, {one.request.horizon} ahead",
            price(one.last_close),
            price(one.close.median[-1]),
            f"{price(band.lower[-1])} to {price(band.upper[-1])}",
            f"{one.upside.value:.0%}",
            f"{_origin(one)}, {one.provenance.model.name}",
        )
    Console().print(table)


def show_job(job: JobStatus) -> None:
    """How a forecast on its way stands, in a line."""
    where = {
        "queued": job.progress.phase if job.progress else f"{job.position or 0} before it in the queue",
        "running": f"{job.progress.phase}, {job.progress.done} of {job.progress.total}" if job.progress else "begun",
    }
    Console().print(f"{job.id}: {job.state}, {where.get(job.state, job.error or '')}")


def print_table(console: Console, title: str, told: Rows, *, whole: int = 0) -> None:
    """Columns of names on the left, of numbers on the right; the first `whole` are never wrapped."""
    head, rows = told
    table = Table(title=title, title_justify="left")
    for place, column in enumerate(head):
        table.add_column(column, justify="right" if place else "left", overflow="fold", no_wrap=place < whole)
    for row in rows:
        table.add_row(*row)
    console.print(table)
