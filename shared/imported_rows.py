"""Updates of imported forecasters as flat rows of CSV, one for each, with what came of it where that is known."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from io import StringIO

from shared.imported_ledger import ImportedEntry

SAID = (
    "forecaster",
    "symbol",
    "interval",
    "horizon",
    "last_open_time_ms",
    "updated_at_ms",
    "upside",
    "volatility_amplification",
    "repository",
    "commit",
    "committed_at_ms",
    "imported_at_ms",
)
CAME = ("klines", "last_close", "close", "scored_at_ms")
COLUMNS = (*SAID, *CAME, "upside_happened", "amplification_happened")


def imported_csv(entries: Sequence[ImportedEntry]) -> str:
    text = StringIO()
    writer = csv.DictWriter(text, fieldnames=COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(_row(entry) for entry in entries)
    return text.getvalue()


def _row(entry: ImportedEntry) -> dict[str, object]:
    row: dict[str, object] = {name: getattr(entry.update, name) for name in SAID}
    scores = entry.scores
    if scores is None:
        return row
    row |= {name: getattr(scores, name) for name in CAME} | {"upside_happened": scores.upside.happened}
    if rose := scores.volatility_amplification:
        row["amplification_happened"] = rose.happened
    return row
