"""`kronos-live backtest`: forecasts from many moments of the past, scored beside plain baselines."""

from __future__ import annotations

import sys
import time
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from services.cli.backtest_options import backtest_options
from services.cli.common import errors_in_one_line, now_ms
from shared.errors import RequestError
from shared.klines import CLOSE
from shared.logs import quiet_logs
from shared.redis_connection import connect
from shared.settings import Settings, load_settings

if TYPE_CHECKING:  # what computes is imported only when it is needed
    from services.cli.backtest_plan import Plan
    from services.cli.backtest_source import History
    from services.inference.backtest.origins import Origin
    from shared.backtest_queue import Line
    from shared.forecasts import ModelIdentity
    from shared.ledger import LedgerEntry

INTERRUPTED = 130  # the exit code of whoever is ended by Ctrl+C

HELP = """Forecast from many moments of the past and score what came, beside plain baselines.

Of a SYMBOL, as Binance writes it, the klines are fetched from the first of data.venues that has it, all from that one, and
kept in the folder of --out: no later run asks for them again. FILE is a CSV of klines (.csv or .csv.gz) named
SYMBOL-INTERVAL, as BTCUSDT-1h.csv.gz, with the columns open_time (UTC ms), open, high, low, close, volume and, if there is
one, quote_volume.

\b
  kronos-live backtest BTCUSDT --interval 1h --from 2025-07-01 --to 2025-12-31 --every 6h --paths 200
  kronos-live backtest BTCUSDT-1h.csv.gz --from 2025-07-01 --to 2025-12-31 --model Kronos-nano --jobs 2
  kronos-live backtest BTCUSDT --from 2025-07-01 --to 2025-12-31 --workers --seed-ledger

Every forecast goes through the same forecaster as in service, with the seed that its moment gives it. They are computed
here, in --jobs processes, or with --workers by all workers of the queue, which take them when no forecast waits. They are
kept in the folder as they come: a run that was interrupted goes on where it was. In the end it holds report.html,
scores.parquet and ledger.jsonl. Bands and probabilities are recalibrated walking forward, by forecasts that had been
scored before; origins from --learn-from on teach them, and only those from --from on are reported.

With --seed-ledger the entries go to the ledger, marked as backtest: those of a SYMBOL to a record of their own, from which
the recalibration of the live series learns while it has few forecasts; those of a FILE to the record of recorded
forecasts. Forecasts of a time that the model may have been trained on are left out.
"""


@click.command(help=HELP)
@click.argument("source", metavar="FILE|SYMBOL")
@backtest_options
@errors_in_one_line
def backtest(source: str, as_json: bool, seed_ledger: bool, **options: Any) -> None:
    from services.cli.backtest_plan import plan_of
    from services.cli.backtest_showing import show_record, warnings_of
    from services.cli.backtest_source import gaps_of, source_of
    from services.inference.backtest.report import write_report, write_scores
    from services.inference.backtest.run import check_plan, keep_plan
    from services.inference.backtest.walk import walk_forward
    from shared.track_record import track_record

    if find_spec("pyarrow") is None:
        raise RequestError("A backtest writes its scores with pyarrow, which is not installed: pip install pyarrow.")
    if options["workers"] and options["jobs"] is not None:
        raise RequestError("--jobs says how many processes compute here, --workers that workers do: name one of them.")
    quiet_logs()
    settings = load_settings()
    plan = plan_of(source_of(source, options["interval"], settings), settings, options)
    series = plan.source.series
    folder = options["out"] or Path(f"backtest-{series.symbol}-{series.interval}")
    check_plan(plan.described(), folder)
    try:
        history = _history(plan, folder)
        origins = plan.origins(history)
        keep_plan(plan.described(), folder)
        lines = _lines(plan, origins, folder, options["jobs"], spread=options["workers"])
    except KeyboardInterrupt:
        click.echo(
            f"kronos-live: stopped; what is there is kept in '{folder}', and the same command goes on.", err=True
        )
        sys.exit(INTERRUPTED)
    _refuse_several_forecasters([line.entry for line in lines])
    if not options["workers"]:
        _refuse_other_weights(lines[0].forecast.provenance.model, settings, folder)
    entries = [line.entry for line in lines]
    if settings.calibration.enabled:
        entries = walk_forward(lines, [origin.known.values[:, CLOSE] for origin in origins])
    reported = [entry for entry in entries if entry.last_open_time_ms + series.interval.ms >= plan.reported_from_ms]
    if not reported:
        raise RequestError("None of the moments lies from --from on: --windows ends before it, so name more of them.")
    record = track_record(reported)
    if record is None:
        raise RequestError("None of the forecasts could be scored, so there is nothing to report.")
    title = f"Backtest of {record.forecaster.model} on {series}" + (
        f" ({history.venue})" if plan.source.file is None else ""
    )
    gaps = gaps_of(history, series.interval, plan.klines_from_ms, plan.until_ms)
    warnings = warnings_of(record, lines, gaps)
    write_report(record, title, warnings, folder / "report.html")
    write_scores(reported, folder / "scores.parquet")
    (folder / "ledger.jsonl").write_text("".join(entry.model_dump_json() + "\n" for entry in reported))
    closing = [_seed(settings, reported)] if seed_ledger else []
    closing.append(f"Written: {folder / 'report.html'}, scores.parquet and ledger.jsonl.")
    if as_json:
        click.echo("\n".join([*warnings, *closing]), err=True)
        click.echo(record.model_dump_json())
    else:
        show_record(record, title, warnings, closing)


def _history(plan: Plan, folder: Path) -> History:
    """The klines, with a progress bar where they come from a venue."""
    from services.cli.backtest_showing import progress_bar
    from services.cli.backtest_source import read_history

    source, from_ms, until_ms = plan.source, plan.klines_from_ms, plan.until_ms
    if source.file is not None:
        return read_history(source, plan.settings, from_ms, until_ms, folder, wait=time.sleep, tell=lambda *_: None)
    with progress_bar(f"klines of {source.series}", (until_ms - from_ms) // plan.interval.ms) as bar:

        def tell(done: int, words: str) -> None:
            bar.done(done)
            bar.say(words)

        return read_history(source, plan.settings, from_ms, until_ms, folder, wait=time.sleep, tell=tell)


def _lines(plan: Plan, origins: list[Origin], folder: Path, jobs: int | None, *, spread: bool) -> list[Line]:
    """The forecasts, with a progress bar, made here or by workers."""
    from services.cli.backtest_showing import progress_bar
    from services.inference.backtest.run import run
    from services.inference.backtest.spread import over_workers
    from shared.backtest_queue import BacktestQueue

    settings = plan.settings
    with progress_bar(str(plan.source.series), len(origins)) as bar:
        if spread:
            queue = BacktestQueue(connect(settings.redis), settings.queue)
            make = over_workers(queue, now_ms, lambda count: bar.say(f"by {count} worker{'' if count == 1 else 's'}"))
        else:
            from services.inference.backtest.local import on_this_machine  # it brings torch, which workers have

            make = on_this_machine(settings, jobs or 1)
        return run(origins, plan.wishes, settings, folder, make, bar.done)


def _refuse_several_forecasters(entries: list[LedgerEntry]) -> None:
    """Workers may have other weights than we have, or have got others while a run was interrupted."""
    made_by = sorted({f"{entry.model} {entry.model_sha256} in {entry.dtype}" for entry in entries})
    if len({entry.forecaster for entry in entries}) > 1:
        raise RequestError(
            f"These forecasts were made by different weights, or in int8 and another dtype ({', '.join(made_by)}), so they "
            f"are not one record: let all workers load the same, and begin anew in another folder."
        )


def _refuse_other_weights(made_by: ModelIdentity, settings: Settings, folder: Path) -> None:
    """What a folder holds is not reported as of a model that has been trained anew since."""
    from services.inference.checkpoints import weights_here  # it brings torch, which workers have

    here = weights_here(made_by.name, settings.model.local_dir)
    if here != (made_by.sha256, made_by.tokenizer_sha256):
        raise RequestError(
            f"'{folder}' holds forecasts of another {made_by.name} (weights {made_by.sha256[:12]}, here {here[0][:12]}): choose "
            f"another folder, or delete it to begin anew."
        )


def _seed(settings: Settings, entries: list[LedgerEntry]) -> str:
    """Into the ledger; returns what came of it, in words."""
    from services.inference.backtest.seeding import seed_ledger

    seeded, first = seed_ledger(connect(settings.redis), entries), entries[0]
    which = "backtests of" if seeded.book == "backtest" else "recorded"
    left_out = f"; {seeded.left_out} that the model may have been trained on are left out" if seeded.left_out else ""
    return f"{seeded.added} of {len(entries)} entries are new in the ledger of {which} {first.symbol} {first.interval}{left_out}."
