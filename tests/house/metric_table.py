"""The table of docs/metrics.md, made from the metrics' own words: `python -m tests.house.metric_table` writes it there."""

from __future__ import annotations

from services.web.metrics import METRICS
from tests.conftest import PROJECT

DOCUMENT = PROJECT / "docs" / "metrics.md"
BEGIN, END = "<!-- metrics -->", "<!-- /metrics -->"


def metric_table() -> str:
    """One row for each metric: name, kind, labels and meaning."""
    rows = ["| metric | kind | labels | meaning |", "|---|---|---|---|"]
    for one in METRICS:
        labels = ", ".join(f"`{label}`" for label in one.labels)
        rows.append(f"| `{one.name}` | {one.kind} | {labels} | {one.meaning} |")
    return "\n".join(rows)


def written_metric_table() -> str:
    return DOCUMENT.read_text().split(BEGIN)[1].split(END)[0].strip()


def main() -> None:
    before, rest = DOCUMENT.read_text().split(BEGIN)
    DOCUMENT.write_text(f"{before}{BEGIN}\n{metric_table()}\n{END}{rest.split(END)[1]}")


if __name__ == "__main__":
    main()
