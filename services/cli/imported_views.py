"""Records of imported forecasters as tables for people, beside ours where both spoke of the same moments."""

from __future__ import annotations

from rich.console import Console

from services.cli.tables import print_table
from shared.imported_record import ImportedRecord, SharedEvent, SharedMoments
from shared.klines import utc
from shared.ledger import ShownBook
from shared.record_tables import EVENTS, Rows
from shared.series_record import COMPARED
from shared.track_record import EventRecord


def show_imported(console: Console, record: ImportedRecord, origin: ShownBook) -> None:
    """`origin` is the book that it stands beside."""
    console.print(
        f"\n{record.forecaster}, imported from {record.repository}: {record.updates} updates, after {utc(record.from_ms)} to "
        f"{utc(record.until_ms)}, {record.horizon} candles ahead. It counts for nothing above.",
        markup=False,
    )
    if not record.scored:
        console.print(
            "None of them is scored yet: their horizon is not over, or no candles are at hand. They are scored by themselves "
            "when ingest brings some; those of older times by `kronos-live import-history` with --klines."
        )
        return
    console.print(f"{record.scored} are scored, by the candles of {', '.join(record.klines)}.", markup=False)
    print_table(console, "Its probabilities: Brier score, lower is better", _event_rows(record))
    both = record.beside
    if both:
        print_table(
            console,
            f"Brier score over the same moments, from {utc(both.from_ms)} to {utc(both.until_ms)}; above 0 ours is better",
            _shared_rows(record.forecaster, both),
        )
    elif origin in COMPARED:
        console.print(
            "There are no candles after which both it and ours have a scored forecast of the same horizon, so they are not "
            "compared."
        )
    else:
        console.print(f"Ours are of {origin.upper()} klines, so they are not compared.")


def _event_rows(record: ImportedRecord) -> Rows:
    head = ["event", "forecasts", "Brier", "a constant 1/2", "the share that happened", "happened"]
    told = zip(EVENTS, (record.upside, record.volatility_amplification), strict=True)
    return head, [_event_row(name, event) for name, event in told if event]


def _event_row(name: str, event: EventRecord) -> list[str]:
    scores = (event.brier, event.always_half, event.always_share)
    return [name, str(event.forecasts), *(f"{score:.3f}" for score in scores), f"{event.happened:.0%}"]


def _shared_rows(imported: str, both: SharedMoments) -> Rows:
    head = ["event", "forecasts", imported, f"ours ({both.model})", "difference", "a constant 1/2"]
    told = zip(EVENTS, (both.upside, both.volatility_amplification), strict=True)
    return head, [_shared_row(name, event) for name, event in told if event]


def _shared_row(name: str, event: SharedEvent) -> list[str]:
    between = event.difference
    sure = "" if between.lower is None or between.upper is None else f" ({between.lower:+.3f} to {between.upper:+.3f})"
    return [
        name,
        str(event.forecasts),
        f"{event.brier:.3f}",
        f"{event.brier_of_ours:.3f}",
        f"{between.value:+.3f}{sure}",
        f"{event.always_half:.3f}",
    ]
