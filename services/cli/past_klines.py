"""`kronos-live klines`: past candles from a venue into files that train, fine-tune and backtest read."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from services.cli.common import errors_in_one_line, now_ms
from services.cli.stopping import stopped_in_one_sentence
from services.cli.venue_klines import SYMBOL, gaps_between, gaps_in_words, refuse_future, require_ingest
from services.cli.writing import written_to
from shared.errors import RequestError
from shared.klines import Interval, utc
from shared.logs import quiet_logs
from shared.settings import Series, Settings, load_settings

if TYPE_CHECKING:
    from services.ingest.past_klines import Kept

DAY = click.DateTime(["%Y-%m-%d"])

HELP = """Fetch past candles of each SYMBOL, written as Binance does, into files of their own.

\b
  kronos-live klines BTCUSDT ETHUSDT --interval 1h --from 2022-01-01 --out klines/
  kronos-live klines SOLUSDT --venue okx --interval 15m --from 2024-01-01 --to 2024-12-31 --out klines/
  kronos-live fine-tune klines/ --from Kronos-nano --out runs/mine

All candles of a file are of one venue: --venue, or the first of data.venues that has them. Only closed candles are taken, page
by page with pauses, and what is missing is named. A file, SYMBOL-INTERVAL.csv.gz with the columns open_time (UTC ms), open,
high, low, close, volume and amount, appears when all of it is there. What was interrupted goes on where it was when the same
command is given again, and a file that is there is extended by later candles of the same venue; SYMBOL-INTERVAL.source.json
beside it says which that is. One at a time writes a folder.
"""


@click.command(help=HELP)
@click.argument("symbols", metavar="SYMBOL...", nargs=-1, required=True)
@click.option(
    "--venue",
    type=click.Choice(["binance", "okx", "bybit"]),
    help="Whom to ask. [default: the first of data.venues that has the candles]",
)
@click.option("--interval", type=click.Choice([one.value for one in Interval]), help="[default: data.interval]")
@click.option("--from", "first_day", required=True, type=DAY, help="First UTC day.")
@click.option("--to", "last_day", type=DAY, help="Last UTC day, included. [default: up to the newest closed candle]")
@click.option("--out", required=True, type=click.Path(file_okay=False, path_type=Path), help="Folder of the files.")
@click.option("--json", "as_json", is_flag=True, help="Print what the files hold as JSON.")
@errors_in_one_line
def klines(
    symbols: tuple[str, ...],
    venue: str | None,
    interval: str | None,
    first_day: datetime,
    last_day: datetime | None,
    out: Path,
    as_json: bool,
) -> None:
    require_ingest("or fetch them where they are")
    quiet_logs()
    settings = load_settings()
    if wrong := next((one for one in symbols if not SYMBOL.fullmatch(one)), None):
        raise RequestError(f"{wrong!r} is no symbol: write it as Binance does, as in BTCUSDT.")
    if venue is not None:
        settings = settings.model_copy(update={"data": settings.data.model_copy(update={"venues": (venue,)})})
    elif "recorded" in settings.data.venues:
        raise RequestError("data.venues is recorded, which has no past to fetch: name a venue with --venue.")
    length = Interval(interval or settings.data.interval)
    from_ms, until_ms = _range(length, first_day, last_day, settings)
    from services.ingest.past_klines import alone_in

    held: list[dict[str, Any]] = []
    with (
        written_to(out),
        alone_in(out),
        stopped_in_one_sentence(lambda: f"what came is kept in '{out}', and the same command goes on."),
    ):
        for symbol in dict.fromkeys(symbols):
            file, kept = _fetch(settings, Series(symbol, length), from_ms, until_ms, out, venue)
            held.append(_told(file, kept, until_ms))
            if not as_json:
                click.echo(_sentence(held[-1]))
    if as_json:
        click.echo(json.dumps(held))


def _range(interval: Interval, first_day: datetime, last_day: datetime | None, settings: Settings) -> tuple[int, int]:
    """In UTC ms: the open time of the first candle, and of the one after the last."""
    from_ms = int(first_day.replace(tzinfo=UTC).timestamp() * 1000)
    if last_day is None:
        # As ingest waits for it: a candle that has just closed is not there yet.
        until_ms = interval.open_time(now_ms() - round(settings.venues.settle_seconds * 1000))
    else:
        until_ms = int(last_day.replace(tzinfo=UTC).timestamp() * 1000) + Interval.D1.ms
        refuse_future("--to", until_ms)
    if from_ms >= until_ms:
        last = "the newest closed candle" if last_day is None else f"--to {last_day:%Y-%m-%d}"
        raise RequestError(f"--from {first_day:%Y-%m-%d} lies after {last}: name an earlier day.")
    return from_ms, until_ms


def _fetch(
    settings: Settings, series: Series, from_ms: int, until_ms: int, out: Path, venue: str | None
) -> tuple[Path, Kept]:
    """With a progress bar that tells the time left."""
    from services.cli.backtest_showing import progress_bar
    from services.ingest.past_klines import keep_past_klines

    with progress_bar(f"klines of {series}", (until_ms - from_ms) // series.interval.ms) as bar:

        def tell(done: int, words: str) -> None:
            bar.done(done)
            bar.say(words)

        return keep_past_klines(settings, series, from_ms, until_ms, out, venue=venue, wait=time.sleep, tell=tell)


def _told(file: Path, kept: Kept, until_ms: int) -> dict[str, Any]:
    """What a file holds, for programs; `missing` are gaps up to what was asked for: from when in UTC ms, and how many."""
    from services.inference.training.kline_files import read_stretches

    stretches = read_stretches(file, kept.interval)
    return {
        "file": str(file),
        "venue": kept.venue,
        "from_ms": kept.from_ms,
        "until_ms": kept.until_ms,
        "candles": sum(map(len, stretches)),
        "missing": [
            {"from_ms": start, "candles": count}
            for start, count in gaps_between(stretches, kept.interval, kept.from_ms, max(until_ms, kept.until_ms))
        ],
    }


def _sentence(told: dict[str, Any]) -> str:
    gaps = gaps_in_words([(one["from_ms"], one["candles"]) for one in told["missing"]], f"at {told['venue']}")
    return (
        f"{told['file']}: {told['candles']:,} candles of {told['venue']}, from {utc(told['from_ms'])} to "
        f"{utc(told['until_ms'])}." + (f" {gaps}; training makes no window across a gap." if gaps else "")
    )
