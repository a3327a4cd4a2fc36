"""What became of forecasts: a series' track record, its ledger, and the outcome of one forecast."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path

import click

from services.cli.common import as_json_option, errors_in_one_line, now_ms, print_json, stores
from services.cli.record_views import show_entry, show_ledger, show_outcome, show_record
from shared.errors import NotFoundError, RequestError
from shared.forecast_store import ForecastStore
from shared.forecasts import Forecast, series_of_scheduled
from shared.freshness import as_of
from shared.kline_store import KlineStore, describe_missing_series
from shared.klines import Interval
from shared.ledger import SHOWN_BOOKS, Ledger, LedgerEntry, ShownBook
from shared.ledger_rows import ledger_csv, ledger_parquet
from shared.outcome import Outcome, closed_steps, followed_candles, ledger_of, outcome_of
from shared.series_record import ledger_in_use, require_forecaster, series_record
from shared.settings import load_settings

SHOWN = 20  # rows of the ledger in a terminal, unless more are asked for
LedgerName = tuple[str, Interval, ShownBook]

MOMENT = click.DateTime(["%Y-%m-%d", "%Y-%m-%dT%H:%M"])

interval_option = click.option(
    "--interval", type=click.Choice([one.value for one in Interval]), help="Left out: the configured one."
)
origin_option = click.option(
    "--origin",
    type=click.Choice(SHOWN_BOOKS),
    help="Whose ledger: of live, recorded or simulated klines, which never mix. Left out: what the series is made of now.",
)


@click.command("track-record")
@click.argument("symbols", metavar="[SYMBOL ...]", nargs=-1)
@interval_option
@origin_option
@click.option("--forecaster", help="One of those listed under 'settings'. Left out: that of the newest forecast.")
@as_json_option
@errors_in_one_line
def track_record(
    symbols: tuple[str, ...],
    interval: str | None,
    origin: ShownBook | None,
    forecaster: str | None,
    as_json: bool,
) -> None:
    """Show how the schedule's forecasts have done beside plain baselines: a verdict, and what it rests on.

    \b
    kronos-live track-record                         the configured series
    kronos-live track-record BTCUSDT ETHUSDT         several
    kronos-live track-record BTCUSDT --json | jq -r .record.verdict

    A forecast is scored when its last candle has closed. Scores are CRPS in 1e-4 of the last close: lower is better. Skill is
    1 - CRPS / CRPS of the best baseline, with a 95 % interval that allows for overlapping horizons; "edge" and "worse" are
    said only where it leaves 0 out. Bands should hold what they are named after. DRIFT says that of late they do not. What
    `kronos-live import-history` has read stands below, apart from all that.
    """
    settings = load_settings()
    klines, forecasts, _ = stores(settings)
    found = []
    for symbol in symbols or (settings.data.symbol,):
        name = _ledger_name(klines, symbol, Interval(interval or settings.data.interval), origin)
        imported = forecasts.imported.entries(*name[:2])
        one = series_record(*name, forecasts.ledger.entries(*name), forecaster, imported)
        if not imported:
            _refuse_unknown(klines, forecasts.ledger, name)
        require_forecaster(one, forecaster)
        found.append(one)
    if as_json:
        print_json(found, as_list=len(found) > 1)
        return
    for one in found:
        show_record(one)


@click.command()
@click.argument("symbol", required=False)
@interval_option
@origin_option
@click.option("--from", "first", metavar="DAY", type=MOMENT, help="First UTC day; or a moment, as 2025-01-31T12:00.")
@click.option(
    "--to", "last", metavar="DAY", type=MOMENT, help="UTC day or moment before which the last known candle opened."
)
@click.option("--limit", type=click.IntRange(1), help=f"The newest so many. [default: {SHOWN} in a table, else all]")
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV, a row for each forecast.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON: whole entries, with the scores of each step.")
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write FILE.csv, FILE.parquet (the same rows) or FILE.json instead.",
)
@errors_in_one_line
def ledger(
    symbol: str | None,
    interval: str | None,
    origin: ShownBook | None,
    first: datetime | None,
    last: datetime | None,
    limit: int | None,
    as_csv: bool,
    as_json: bool,
    out: Path | None,
) -> None:
    """List what became of each forecast of the schedule, the newest first.

    \b
    kronos-live ledger BTCUSDT                                the newest 20
    kronos-live ledger BTCUSDT --from 2025-01-01 --out 2025.parquet
    kronos-live ledger BTCUSDT --csv | head

    SYMBOL is as Binance writes it; left out: the configured one. An entry is written once, when the forecast's candles have
    closed, and kept for ever.
    """
    if sum((as_csv, as_json, out is not None)) > 1:
        raise RequestError("--csv, --json and --out exclude each other: name one of them.")
    if first and last and last <= first:
        raise RequestError(f"--to is {last:%Y-%m-%dT%H:%M}, but allowed is a moment after --from.", field="to")
    write = _writer(out) if out else None
    settings = load_settings()
    klines, forecasts, _ = stores(settings)
    name = _ledger_name(klines, symbol or settings.data.symbol, Interval(interval or settings.data.interval), origin)
    in_a_table = not (as_csv or as_json or out)
    entries = forecasts.ledger.entries(
        *name, from_ms=_ms(first) or 0, until_ms=_ms(last), newest=limit or (SHOWN if in_a_table else None)
    )[::-1]
    if not entries:
        _refuse_unknown(klines, forecasts.ledger, name)
    if out and write:
        _write_whole(out, write(entries))
        click.echo(f"{len(entries)} entries written to {out}.", err=True)
    elif as_csv:
        click.echo(ledger_csv(entries), nl=False)
    elif as_json:
        print_json(entries, as_list=True)
    else:
        show_ledger(*name, entries)


@click.command()
@click.argument("forecast_id", metavar="FORECAST_ID")
@as_json_option
@errors_in_one_line
def outcome(forecast_id: str, as_json: bool) -> None:
    """Show what followed a forecast: its candles so far, how they lie in its bands, and its scores.

    \b
    kronos-live outcome BTCUSDT-1h-20250101T000000Z

    The ids are those of `kronos-live list` and `kronos-live ledger`. One forecast says nothing of how often its kind is right:
    `kronos-live track-record` does. Of a forecast that is kept no longer its scores are shown, which are kept for ever.
    """
    klines, forecasts, queue = stores(load_settings())
    if forecasts.exists(forecast_id):
        forecast = forecasts.load(forecast_id)
        found = _outcome(klines, forecasts, forecast)
        print_json([found], as_list=False) if as_json else show_outcome(forecast, found)
        return
    series = series_of_scheduled(forecast_id)
    entry = forecasts.ledger.entry(*series, forecast_id) if series else None
    if entry is None:
        state = queue.status(forecast_id).state  # raises NotFoundError where it never was
        raise NotFoundError(f"Forecast {forecast_id} is {state}, so nothing has followed it yet.")
    print_json([entry], as_list=False) if as_json else show_entry(entry)


def _outcome(klines: KlineStore, forecasts: ForecastStore, forecast: Forecast) -> Outcome:
    followed = followed_candles(klines, forecast)
    series = klines.status(forecast.request.symbol, forecast.request.interval)
    closed = closed_steps(forecast, followed, series, now_ms())
    return outcome_of(forecast, followed, closed, forecasts.ledger.entry(*ledger_of(forecast), forecast.id))


def _ledger_name(klines: KlineStore, symbol: str, interval: Interval, origin: ShownBook | None) -> LedgerName:
    return symbol, interval, origin or ledger_in_use(klines.status(symbol, interval))


def _refuse_unknown(klines: KlineStore, ledger: Ledger, name: LedgerName) -> None:
    """Raises NotFoundError where nobody knows that series; one that is ingested may have no entry yet."""
    symbol, interval, origin = name
    if klines.status(symbol, interval) is not None or ledger.version(*name)[0]:
        return
    for other in SHOWN_BOOKS:
        if count := ledger.version(symbol, interval, other)[0]:
            raise NotFoundError(
                f"The ledger of {origin} {symbol} {interval} is empty, but that of {other} klines has {count} entries: add "
                f"--origin {other}.",
                field="origin",
            )
    known = [as_of(one, now_ms()) for one in klines.all_statuses()]
    raise NotFoundError(describe_missing_series(symbol, interval, known), field="symbol")


def _writer(out: Path) -> Callable[[list[LedgerEntry]], bytes]:
    """What writes a file of that name. Raises RequestError before anything is read."""
    match out.suffix:
        case ".csv":
            return lambda entries: ledger_csv(entries).encode()
        case ".json":
            return lambda entries: f"[{','.join(entry.model_dump_json() for entry in entries)}]\n".encode()
        case ".parquet" if find_spec("pyarrow") is None:
            raise RequestError(
                "Parquet is written with pyarrow, which is not installed: pip install pyarrow, or write .csv."
            )
        case ".parquet":
            return ledger_parquet
    raise RequestError(
        f"--out is {out.name!r}, but allowed is a name that ends in .csv, .parquet or .json.", field="out"
    )


def _write_whole(out: Path, content: bytes) -> None:
    """All or nothing: an interruption leaves what was there before. Raises RequestError where it cannot be written."""
    part = out.with_name(f".{out.name}.part")
    try:
        part.write_bytes(content)
        part.replace(out)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise RequestError(f"{out} cannot be written ({error.strerror}): name another file.", field="out") from None


def _ms(moment: datetime | None) -> int | None:
    return None if moment is None else int(moment.replace(tzinfo=UTC).timestamp() * 1000)
