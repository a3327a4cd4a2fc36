"""Entries of a ledger as flat rows, one for each forecast, for tables and data frames.

CSV needs nothing; Parquet needs pyarrow, which is imported only when some is written.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from io import BytesIO, StringIO

from shared.forecasts import BASELINE_NAMES
from shared.ledger import EventScore, LedgerEntry
from shared.statistics import LEVELS


def ledger_csv(entries: Sequence[LedgerEntry]) -> str:
    text = StringIO()
    writer = csv.DictWriter(text, fieldnames=COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(_row(entry) for entry in entries)
    return text.getvalue()


def ledger_parquet(entries: Sequence[LedgerEntry]) -> bytes:
    import pyarrow
    import pyarrow.parquet

    file = BytesIO()
    schema = pyarrow.schema([(name, pyarrow.type_for_alias(_kind(name))) for name in COLUMNS])
    table = pyarrow.Table.from_pylist([_row(entry) for entry in entries], schema=schema)
    pyarrow.parquet.write_table(table, file, compression="zstd")
    return file.getvalue()


def _row(entry: LedgerEntry) -> dict[str, object]:
    scores = entry.scores
    row: dict[str, object] = {name: getattr(entry, name) for name in NAMED}
    row["interval"] = str(entry.interval)
    if scores is None:
        return row
    beside = scores.recalibrated
    row |= {
        "crps": scores.crps,
        "error_of_mean": scores.error_of_mean,
        "error_of_median": scores.error_of_median,
        **{f"covered_{band.level}": band.share for band in scores.bands},
        **{f"interval_score_{band.level}": band.interval_score for band in scores.bands},
        **{f"recalibrated_covered_{band.level}": band.share for band in (beside.bands if beside else [])},
        **_event("upside", scores.upside),
        **_event("amplification", scores.volatility_amplification),
        **{f"crps_{name}": one.crps for name, one in scores.baselines.items() if f"crps_{name}" in COLUMNS},
    }
    return row


def _event(name: str, event: EventScore | None) -> dict[str, object]:
    return {name: event.probability, f"{name}_happened": event.happened} if event else {}


NAMED = (
    "forecast_id",
    "symbol",
    "venue",
    "origin",
    "made_for",
    "last_open_time_ms",
    "last_close",
    "horizon",
    "num_samples",
    "temperature",
    "top_p",
    "top_k",
    "model",
    "model_sha256",
    "forecaster",
    "seen_in_training",
    "scored_at_ms",
    "revised",
    "problem",
)
_WHOLE = {"last_open_time_ms", "horizon", "num_samples", "top_k", "scored_at_ms"}
_TRUTH = {"seen_in_training", "revised", "upside_happened", "amplification_happened"}
_FLOATS = {"last_close", "temperature", "top_p"}


COLUMNS = (
    *NAMED,
    "interval",
    "crps",
    "error_of_mean",
    "error_of_median",
    *(f"{kind}_{level}" for kind in ("covered", "interval_score", "recalibrated_covered") for level in LEVELS),
    "upside",
    "upside_happened",
    "amplification",
    "amplification_happened",
    *(f"crps_{name}" for name in BASELINE_NAMES),
)


def _kind(name: str) -> str:
    """The type of a column, in pyarrow's words."""
    if name in _WHOLE:
        return "int64"
    if name in _TRUTH:
        return "bool"
    return "float64" if name in _FLOATS or name not in {*NAMED, "interval"} else "string"
