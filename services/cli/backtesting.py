"""`kronos-live backtest`: forecasts from many moments of the past, scored beside plain baselines."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from services.cli.common import errors_in_one_line
from services.cli.record_views import show_record_tables, show_verdict
from shared.errors import RequestError
from shared.klines import Interval
from shared.ledger import Ledger, LedgerEntry
from shared.redis_connection import connect
from shared.settings import MODEL_NAMES, Settings, load_settings

HELP = """Forecast from many moments of FILE's past and score what came, beside plain baselines.

FILE is a CSV of klines (.csv or .csv.gz) named SYMBOL-INTERVAL, as BTCUSDT-1h.csv.gz, with the columns open_time (UTC ms),
open, high, low, close, volume and, if there is one, quote_volume.

\b
  kronos-live backtest BTCUSDT-1h.csv.gz --from 2025-01-01 --to 2025-06-30 --every 6h --paths 200 --model Kronos-nano

Every forecast goes through the same forecaster as in service, with the seed that its moment gives it. They are kept in
the folder of --out as they come: a run that was interrupted goes on where it was. In the end it holds report.html,
scores.parquet and ledger.jsonl. Bands and probabilities are recalibrated walking forward, by forecasts that had been
scored before; origins from --learn-from on teach them, and only those from --from on are reported.
"""
UNITS = {"m": 60_000, "h": 3_600_000, "d": 86_400_000}


class Step(click.ParamType[int]):
    """90m, 6h, 1d -> ms."""

    name = "step"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        found = re.fullmatch(r"([1-9]\d{0,4})([mhd])", str(value))
        if not found:
            self.fail(f"{value!r} is no step of time; write one as 90m, 6h or 1d.", param, ctx)
        return int(found[1]) * UNITS[found[2]]


@click.command(help=HELP)
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--from", "first_day", required=True, type=click.DateTime(["%Y-%m-%d"]), help="First UTC day forecast.")
@click.option("--to", "last_day", required=True, type=click.DateTime(["%Y-%m-%d"]), help="Last UTC day, included.")
@click.option(
    "--learn-from",
    type=click.DateTime(["%Y-%m-%d"]),
    help="First UTC day that recalibration learns from. [default: --from]",
)
@click.option("--every", default="6h", type=Step(), show_default=True, help="Time between origins.")
@click.option("--windows", type=click.IntRange(1), help="At most so many origins, the first of them. [default: all]")
@click.option("--model", type=click.Choice(MODEL_NAMES), help="[default: model.model_name]")
@click.option("--paths", type=click.IntRange(2), help="[default: sampling.num_samples]")
@click.option("--history", type=click.IntRange(64), help="Candles known. [default: data.history_window]")
@click.option("--horizon", type=click.IntRange(1), help="Candles forecast. [default: data.forecast_horizon]")
@click.option("--temperature", type=click.FloatRange(0, 5, min_open=True), help="[default: sampling.temperature]")
@click.option("--top-p", type=click.FloatRange(0, 1, min_open=True), help="[default: sampling.top_p]")
@click.option(
    "--jobs", default=1, type=click.IntRange(1, 256), show_default=True, help="Processes that share the cores."
)
@click.option(
    "--out", type=click.Path(file_okay=False, path_type=Path), help="Folder. [default: backtest-SYMBOL-INTERVAL]"
)
@click.option("--seed-ledger", is_flag=True, help="Add the entries to the ledger in Redis, marked as backtest.")
@click.option("--json", "as_json", is_flag=True, help="Print the record as JSON.")
@errors_in_one_line
def backtest(file: Path, as_json: bool, seed_ledger: bool, **options: Any) -> None:
    from services.inference.backtest.report import write_report, write_scores
    from services.inference.backtest.run import Plan, run
    from services.inference.backtest.walk import walk_forward
    from shared.track_record import track_record

    if find_spec("pyarrow") is None:
        raise RequestError("A backtest writes its scores with pyarrow, which is not installed: pip install pyarrow.")
    settings = load_settings()
    symbol, interval = _series_of(file)
    wishes = _wishes(settings, options)
    origins = _origins(file, interval, settings, options)
    folder = options["out"] or Path(f"backtest-{symbol}-{interval}")
    Plan(_described(file, options, settings)).check(folder)
    with _progress() as progress:
        task = progress.add_task(f"{symbol} {interval}", total=len(origins))
        lines = run(
            origins, wishes, settings, folder, options["jobs"], lambda done: progress.update(task, completed=done)
        )
    entries = walk_forward(lines, [origin.known.values[:, 3] for origin in origins])
    reported = [entry for entry in entries if entry.last_open_time_ms + interval.ms >= _ms(options["first_day"])]
    record = track_record(reported)
    if record is None:
        raise RequestError("None of the forecasts could be scored, so there is nothing to report.")
    title = f"Backtest of {record.forecaster.model} on {symbol} {interval}"
    warnings = _warnings(record)
    write_report(record, title, warnings, folder / "report.html")
    write_scores(reported, folder / "scores.parquet")
    (folder / "ledger.jsonl").write_text("".join(entry.model_dump_json() + "\n" for entry in reported))
    added = _seed_ledger(settings, reported) if seed_ledger else 0
    if as_json:
        click.echo(record.model_dump_json())
        return
    console = Console(width=max(100, Console().width))
    console.print(f"\n[bold]{title}[/bold], {record.forecasts} forecasts")
    for warning in warnings:
        console.print(f"[yellow]{warning}[/yellow]")
    show_verdict(console, record)
    show_record_tables(console, record)
    if seed_ledger:
        console.print(f"{added} of {len(reported)} entries are new in the ledger of recorded {symbol} {interval}.")
    console.print(f"Written: {folder / 'report.html'}, scores.parquet and ledger.jsonl.")


def _series_of(file: Path) -> tuple[str, Interval]:
    found = re.fullmatch(r"([A-Z0-9]{2,20})-([0-9]+[mhd])\.csv(\.gz)?", file.name)
    if not found or found[2] not in [one.value for one in Interval]:
        raise RequestError(f"{file.name} does not say what it holds: name it as BTCUSDT-1h.csv or BTCUSDT-1h.csv.gz.")
    return found[1], Interval(found[2])


def _wishes(settings: Settings, options: dict[str, Any]) -> Any:
    """Checked as every request is."""
    from shared.adhoc_forecasts import read_wishes

    named = {"model": "model", "paths": "num_samples", "history": "history", "horizon": "horizon"}
    named |= {"temperature": "temperature", "top_p": "top_p"}
    return read_wishes(settings, {wish: options[name] for name, wish in named.items() if options[name] is not None})


def _origins(file: Path, interval: Interval, settings: Settings, options: dict[str, Any]) -> list[Any]:
    from services.inference.backtest.origins import find_origins
    from services.inference.training.kline_files import read_stretches

    if options["every"] % interval.ms:
        raise RequestError(f"--every must be a multiple of {interval}, the interval of {file.name}.")
    history = options["history"] or settings.data.history_window
    first = min(_ms(day) for day in (options["first_day"], options["learn_from"]) if day)
    origins = list(
        find_origins(
            read_stretches(file, interval),
            interval,
            from_ms=first,
            until_ms=_ms(options["last_day"]) + Interval.D1.ms,
            every_ms=options["every"],
            known=max(history, settings.data.volatility_window) + 1,
            horizon=options["horizon"] or settings.data.forecast_horizon,
        )
    )[: options["windows"]]
    if not origins:
        raise RequestError(
            f"'{file}' has no {history} candles without a gap before a moment from {options['first_day']:%Y-%m-%d} to "
            f"{options['last_day']:%Y-%m-%d} and a whole horizon after it: choose other days."
        )
    return origins


def _described(file: Path, options: dict[str, Any], settings: Settings) -> dict[str, object]:
    """What has to be the same for a run to go on with another's forecasts."""
    sampling, data = settings.sampling, settings.data
    return {
        "file": file.name,
        "bytes": file.stat().st_size,
        "every_ms": options["every"],
        "model": options["model"] or settings.model.model_name,
        "dtype": settings.model.dtype,
        "paths": options["paths"] or sampling.num_samples,
        "history": options["history"] or data.history_window,
        "horizon": options["horizon"] or data.forecast_horizon,
        "temperature": options["temperature"] or sampling.temperature,
        "top_p": options["top_p"] or sampling.top_p,
        "top_k": sampling.top_k,
    }


def _seed_ledger(settings: Settings, entries: Sequence[LedgerEntry]) -> int:
    """How many of them were not there before. They are of a recording, and so stand in the ledger of recorded forecasts.

    There they are named after their forecaster too, so that another setting's of the same moments have room beside them.
    """
    ledger = Ledger(connect(settings.redis))
    named = [entry.model_copy(update={"forecast_id": f"{entry.forecast_id}-{entry.forecaster}"}) for entry in entries]
    return sum([ledger.add(entry) for entry in named])


def _warnings(record: Any) -> list[str]:
    if not record.seen_in_training:
        return []
    return [
        f"{record.seen_in_training} of the {record.forecasts} forecasts are of a time that the model may have been trained on, "
        f"so their scores flatter it."
    ]


def _progress() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    )


def _ms(day: datetime) -> int:
    return int(day.replace(tzinfo=UTC).timestamp() * 1000)
