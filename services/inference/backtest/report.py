"""A backtest's record as one HTML file that needs nothing beside it, and its entries as a table for other programs."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path

from shared.klines import utc
from shared.ledger import LedgerEntry
from shared.record_tables import baseline_rows, coverage_rows, event_rows, headline
from shared.track_record import TrackRecord

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #1c2330; }
table { border-collapse: collapse; margin: 1rem 0 2rem; } caption { text-align: left; font-weight: 600; }
th, td { padding: .25rem .8rem; border-bottom: 1px solid #ccd3dd; text-align: right; } th:first-child { text-align: left; }
.warning { background: #fff3d6; padding: .6rem 1rem; border-left: 4px solid #b37400; } svg { max-width: 100%; }
@media (prefers-color-scheme: dark) { body { background: #12161d; color: #dfe5ee; } .warning { background: #3a2f14; } }
"""
WIDTH, HEIGHT, LEFT = 640, 220, 40
COLOURS = {50: "#2a78c2", 80: "#b3541e", 95: "#3b8a4b"}


def write_report(record: TrackRecord, title: str, warnings: Sequence[str], file: Path) -> None:
    """`title` says what was forecast, `warnings` what a reader must know first."""
    parts = [
        f"<!doctype html><html lang='en'><meta charset='utf-8'><title>{escape(title)}</title><style>{STYLE}</style>",
        f"<h1>{escape(title)}</h1>",
        *(f"<p class='warning'>{escape(warning)}</p>" for warning in warnings),
        f"<p><strong>{escape(headline(record))}</strong></p>",
        f"<p>{record.forecasts} forecasts, the first after {utc(record.from_ms)}, the last after {utc(record.until_ms)}; "
        f"temperature {record.forecaster.temperature:g}, top-p {record.forecaster.top_p:g}. CRPS in 1e-4 of the last close, "
        f"mean over the steps; lower is better.</p>",
        _table("CRPS beside the baselines", *baseline_rows(record)),
        _table("What share of the closes the bands held", *coverage_rows(record)),
        _coverage_chart(record),
        _table("Probabilities (Brier score; 0.25 is what a constant one half scores)", *event_rows(record)),
    ]
    file.write_text("\n".join(parts) + "\n</html>\n", encoding="utf-8")


def write_scores(entries: Sequence[LedgerEntry], file: Path) -> None:
    """One row for each forecast and step, as Parquet."""
    import pyarrow
    import pyarrow.parquet

    rows = [row for entry in entries for row in _rows(entry)]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), file, compression="zstd")


def _rows(entry: LedgerEntry) -> list[dict[str, object]]:
    scores = entry.scores
    if scores is None:
        return []
    beside = scores.recalibrated
    return [
        {
            "forecast_id": entry.forecast_id,
            "symbol": entry.symbol,
            "last_open_time_ms": entry.last_open_time_ms,
            "step": step + 1,
            "last_close": entry.last_close,
            "close": entry.closes[step],
            "crps": scores.crps_by_step[step],
            "pit": scores.pit[step],
            "position": scores.position[step],
            **{f"covered_{band.level}": band.covered[step] for band in scores.bands},
            **{f"recalibrated_covered_{band.level}": band.covered[step] for band in (beside.bands if beside else [])},
            **{f"crps_mean_{name}": one.crps for name, one in scores.baselines.items()},
            "crps_mean": scores.crps,
            "upside": scores.upside.probability if scores.upside else None,
            "upside_happened": scores.upside.happened if scores.upside else None,
            "seen_in_training": entry.seen_in_training,
        }
        for step in range(entry.horizon)
    ]


def _table(caption: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    heads = "".join(f"<th scope='col'>{escape(cell)}</th>" for cell in head)
    body = "".join(
        f"<tr><th scope='row'>{escape(row[0])}</th>{''.join(f'<td>{escape(cell)}</td>' for cell in row[1:])}</tr>"
        for row in rows
    )
    return f"<table><caption>{escape(caption)}</caption><thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table>"


def _coverage_chart(record: TrackRecord) -> str:
    """Coverage by step: raw bands in full, recalibrated ones dashed, what they say as thin lines."""
    lines = []
    for level, colour in COLOURS.items():
        height = HEIGHT * (1 - level / 100)
        lines.append(
            f"<line x1='{LEFT}' x2='{WIDTH}' y1='{height}' y2='{height}' stroke='{colour}' stroke-width='.5'/>"
            f"<text x='0' y='{height + 4}' font-size='12' fill='{colour}'>{level} %</text>"
        )
    for bands, dashes in ((record.bands, ""), (record.recalibrated.bands if record.recalibrated else [], "6 4")):
        for band in bands:
            points = " ".join(
                f"{LEFT + (WIDTH - LEFT) * step / max(1, len(band.by_step) - 1):.1f},{HEIGHT * (1 - share):.1f}"
                for step, share in enumerate(band.by_step)
                if share is not None
            )
            lines.append(
                f"<polyline points='{points}' fill='none' stroke='{COLOURS[band.level]}' stroke-width='2' "
                f"stroke-dasharray='{dashes}'/>"
            )
    return (
        f"<figure><svg viewBox='0 0 {WIDTH} {HEIGHT + 20}' role='img' aria-label='Coverage by step; the tables above have "
        f"the means'>{''.join(lines)}<text x='{LEFT}' y='{HEIGHT + 16}' font-size='12' fill='currentColor'>step 1</text>"
        f"<text x='{WIDTH - 50}' y='{HEIGHT + 16}' font-size='12' fill='currentColor'>step {len(record.crps_by_step)}"
        f"</text></svg><figcaption>Share of closes within each band by step: raw in full, recalibrated dashed.</figcaption>"
        f"</figure>"
    )
