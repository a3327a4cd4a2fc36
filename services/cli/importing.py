"""`kronos-live import-history`: what a page of the original demo has forecast, from its git repository into the ledger."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import click

from services.cli.common import as_json_option, errors_in_one_line, now_ms, print_json
from services.cli.stopping import stopped_in_one_sentence
from services.cli.venue_klines import SYMBOL
from shared.errors import RequestError
from shared.imported_ledger import ImportedLedger
from shared.imported_scores import RETURNS_BEFORE, KnownCloses
from shared.imported_scoring import stored_closes
from shared.kline_store import KlineStore
from shared.klines import CLOSE, Interval, utc
from shared.logs import quiet_logs
from shared.redis_connection import connect
from shared.settings import Series, load_settings

if TYPE_CHECKING:
    from services.cli.demo_history.importing import Imported
    from services.cli.demo_history.repository import Version

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,39}")
TOLD_EVERY = 50  # pages

HELP = """Read what a page of the original demo has forecast into the ledger, and score it beside ours.

\b
  git clone https://github.com/OWNER/Kronos-demo.git
  kronos-live import-history Kronos-demo
  kronos-live import-history https://github.com/OWNER/Kronos-demo.git --branch gh-pages
  kronos-live import-history Kronos-demo --klines klines/BTCUSDT-1h.csv.gz
  kronos-live track-record BTCUSDT

SOURCE is a clone's folder, a work tree or bare, or the address of a repository, of which only commits and small files are
fetched. Each version of its index.html is an update: time, upside probability, volatility amplification. They stand apart from
our own forecasts, as "NAME (imported)", and count for nothing of ours: no coverage, no drift, no recalibration. Scored is what
is over and whose candles are at hand: of a venue in the store of klines, or in FILE as `kronos-live klines` writes it. What is
not over yet is scored by itself, by a worker, when ingest brings its candles; what is older than ingest stores needs FILE.
Done again, it adds what is new. A page that cannot be read, or was committed so late that it may have known what followed,
is counted and left out.
"""


@click.command("import-history", help=HELP)
@click.argument("source")
@click.option("--symbol", default="BTCUSDT", show_default=True, help="What the page forecasts, as Binance writes it.")
@click.option(
    "--interval",
    type=click.Choice([one.value for one in Interval]),
    default="1h",
    show_default=True,
    help="Length of its candles.",
)
@click.option(
    "--horizon", type=click.IntRange(2, 448), default=24, show_default=True, help="How many candles ahead it looks."
)
@click.option("--branch", help="Whose history. [default: that which is checked out, or the repository's own]")
@click.option("--name", default="kronos-demo", show_default=True, help="Of the forecaster; another page needs another.")
@click.option(
    "--klines",
    "file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="File of klines to score with, before those in the store.",
)
@as_json_option
@errors_in_one_line
def import_history(
    source: str,
    symbol: str,
    interval: str,
    horizon: int,
    branch: str | None,
    name: str,
    file: Path | None,
    as_json: bool,
) -> None:
    from services.cli.demo_history.importing import Source
    from services.cli.demo_history.importing import import_history as begin
    from services.cli.demo_history.repository import opened

    quiet_logs()
    if not SYMBOL.fullmatch(symbol):
        raise RequestError(f"{symbol!r} is no symbol: write it as Binance does, as in BTCUSDT.", field="symbol")
    if not NAME.fullmatch(name):
        raise RequestError(
            f"--name is {name[:60]!r}, but allowed are up to 40 letters, digits, dots, dashes and underscores.",
            field="name",
        )
    settings, series = load_settings(), Series(symbol, Interval(interval))
    of_file = [_file_closes(file, series)] if file else []
    redis = connect(settings.redis)
    store = KlineStore(redis, settings.retention.snapshots_per_series)

    def closes_between(from_ms: int, until_ms: int) -> list[KnownCloses]:
        return [*of_file, *stored_closes(store, *series, from_ms, until_ms)]

    with (
        stopped_in_one_sentence(lambda: "the same command goes on: what is in the ledger already stays."),
        opened(source, branch, lambda words: click.echo(words, err=True)) as repository,
    ):
        found = begin(
            ImportedLedger(redis),
            repository,
            Source(f"{name} (imported)", series, horizon),
            closes_between,
            now_ms(),
            _with_progress,
        )
    print_json([found], as_list=False) if as_json else _tell(found)


def _with_progress(commits: Sequence[tuple[str, int]], versions: Iterator[Version]) -> Iterator[Version]:
    from services.cli.backtest_showing import progress_bar

    with progress_bar("pages", len(commits)) as bar:
        for place, version in enumerate(versions, 1):
            if place % TOLD_EVERY == 0 or place == len(commits):
                bar.done(place)
            yield version


def _file_closes(file: Path, series: Series) -> KnownCloses:
    """Raises KlineError, or RequestError where the file says in its name that it is of another symbol."""
    if find_spec("services.inference") is None:
        raise RequestError(
            "Files of klines are read by the parts of inference, which are not installed here.", field="klines"
        )
    from services.inference.training.kline_files import read_stretches

    named = file.name.split(f"-{series.interval}.")[0]
    if named not in (file.name, series.symbol):
        raise RequestError(
            f"'{file}' says in its name that its candles are of {named}, but {series.symbol} is imported: name its file.",
            field="klines",
        )
    closes: dict[int, float] = {}
    for part in read_stretches(file, series.interval):
        closes |= zip(part.open_times_ms.tolist(), part.values[:, CLOSE].tolist(), strict=True)
    return KnownCloses(f"file {file.name}", closes)


def _tell(found: Imported) -> None:
    click.echo(
        f"{found.forecaster}, {found.symbol} {found.interval}, from {found.repository}: {found.pages:,} pages read, "
        f"{found.new:,} updates new, {found.known:,} there before, {found.repeated:,} pages without news, "
        f"{found.refused:,} refused."
    )
    for reason in found.reasons:
        click.echo(f"Refused: {reason}")
    if found.refused > len(found.reasons):
        click.echo(f"And {found.refused - len(found.reasons):,} more were refused.")
    if found.differing:
        click.echo(
            f"{found.differing:,} updates say something else now than when they were imported first, which is what is kept."
        )
    without = found.updates - found.scored - found.waiting
    click.echo(
        f"{found.scored:,} of {found.updates:,} updates are scored, {found.newly_scored:,} of them just now; of "
        f"{found.waiting:,} the horizon is not over, and of {without:,} no candles are at hand."
    )
    if found.waiting or without:
        click.echo(
            f"What comes to have candles is scored by itself, where ingest keeps up {found.symbol} {found.interval} and a worker "
            f"runs."
        )
    if found.lacking_from_ms is not None:
        # The amplification is compared with what went before.
        first_ms = found.lacking_from_ms - (RETURNS_BEFORE + 1) * found.interval.ms
        click.echo(
            f"What is older than the stored candles, or in a gap of theirs, is not: `kronos-live klines {found.symbol} "
            f"--interval {found.interval} --from {utc(first_ms)[:10]} --out klines/` fetches candles, and the same command again "
            f"with --klines klines/{found.symbol}-{found.interval}.csv.gz scores with them."
        )
