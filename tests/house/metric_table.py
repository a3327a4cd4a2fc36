"""The table of docs/metrics.md, made from the metrics' own words: `python -m tests.house.metric_table` writes it there."""

from __future__ import annotations

from services.alerts.metrics import ALERT_METRICS
from services.inference.work_metrics import WORKER_METRICS
from services.ingest.metrics import INGEST_METRICS
from services.publishing.metrics import PUBLISHING_METRICS
from services.web.metrics import METRICS
from tests.conftest import PROJECT

DOCUMENT = PROJECT / "docs" / "metrics.md"
TOLD_BY = {
    "web": METRICS,
    "ingest": INGEST_METRICS,
    "worker": WORKER_METRICS,
    "publish": PUBLISHING_METRICS,
    "alerts": ALERT_METRICS,
}
BEGIN, END = "<!-- metrics -->", "<!-- /metrics -->"


def metric_table() -> str:
    """One row for each metric: name, the service that tells it, kind, labels and meaning."""
    rows = ["| metric | told by | kind | labels | meaning |", "|---|---|---|---|---|"]
    for service, metrics in TOLD_BY.items():
        for one in metrics:
            labels = ", ".join(f"`{label}`" for label in one.labels)
            rows.append(f"| `{one.name}` | {service} | {one.kind} | {labels} | {one.meaning} |")
    return "\n".join(rows)


def written_metric_table() -> str:
    return DOCUMENT.read_text().split(BEGIN)[1].split(END)[0].strip()


def main() -> None:
    before, rest = DOCUMENT.read_text().split(BEGIN)
    DOCUMENT.write_text(f"{before}{BEGIN}\n{metric_table()}\n{END}{rest.split(END)[1]}")


if __name__ == "__main__":
    main()
