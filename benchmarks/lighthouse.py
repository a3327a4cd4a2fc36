"""`python -m benchmarks.lighthouse`: what Lighthouse says of our pages, on a server of its own with a forecast and a record.

A developer's tool: it takes npm and Node 20, which fetch Lighthouse (12.x is the last that runs there) the first time, and a
Chromium on the PATH (else name one in CHROME_PATH). Desktop preset, without a network in between; a score is the median of
`--repeat` runs. Every audit that was not passed in all of them is named
with its score there, or as advice where it weighs nothing. Ends with 1 where a score is below what is wanted.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import click

from benchmarks.page import chromium
from benchmarks.web import latest_forecast_id, web_with_a_forecast
from shared.logs import configure_logs
from shared.redis_connection import connect
from shared.settings import LogSettings, load_settings
from tests.integration.test_web_record import scored

LIGHTHOUSE = "lighthouse@12.8.2"
WANTED = {"accessibility": 95, "best-practices": 95, "performance": 90, "seo": 0}  # scores out of 100
PATIENCE_S = 300
TRIES = 3  # now and then Lighthouse loses its own trace of a page (NO_NAVSTART) and says to run it again


@click.command(help=__doc__)
@click.option("--repeat", default=3, type=click.IntRange(1), show_default=True, help="runs of each page")
@click.option("--json", "as_json", is_flag=True)
def main(repeat: int, as_json: bool) -> None:
    told: dict[str, Any] = {"lighthouse": LIGHTHOUSE, "cores": os.cpu_count(), "load": os.getloadavg()[0], "pages": {}}
    with tempfile.TemporaryDirectory() as folder, web_with_a_forecast(Path(folder)) as address:
        by_itself, record = f"/forecasts/{latest_forecast_id()}?lang=en", "/track-record?lang=en&origin=live"
        _fill_the_ledger()
        for page in ("/?lang=en", "/?lang=zh", by_itself, record, "/docs"):
            reports = [_report(address + page, Path(folder)) for _ in range(repeat)]
            told["pages"][page] = {"scores": _scores(reports), "failed": _failed(reports), "times": _times(reports)}
            if not as_json:
                _tell(page, told["pages"][page])
    if as_json:
        click.echo(json.dumps(told))
    pages = told["pages"].values()
    sys.exit(any(page["scores"][name] < wanted for page in pages for name, wanted in WANTED.items()))


def _fill_the_ledger() -> None:
    """Of the server's own Redis, quietly."""
    settings = load_settings()
    configure_logs(LogSettings(level="warning", format="auto"), "lighthouse")
    scored(connect(settings.redis))


def _report(url: str, folder: Path) -> dict[str, Any]:
    """One run of Lighthouse, as it writes it down; a run that failed by itself is made again, and told of."""
    for _ in range(TRIES):
        report, problem = _run(url, folder)
        if problem is None:
            return report
        click.echo(f"Lighthouse failed on {url}: {problem}", err=True)
    raise SystemExit(f"Lighthouse failed {TRIES} times on {url}.")


def _run(url: str, folder: Path) -> tuple[dict[str, Any], str | None]:
    npm = shutil.which("npm")
    if npm is None:
        raise SystemExit("Lighthouse needs npm on the PATH (Debian: apt-get install npm).")
    flags = ["--headless=new", *(["--no-sandbox"] if os.geteuid() == 0 else [])]
    report = folder / "report.json"
    command = [npm, "exec", "--yes", "--", LIGHTHOUSE, url, "--preset=desktop", "--quiet", "--output=json"]
    command += [f"--output-path={report}", f"--chrome-flags={' '.join(flags)}"]
    done = subprocess.run(
        command, env={**os.environ, "CHROME_PATH": chromium()}, capture_output=True, timeout=PATIENCE_S, check=False
    )
    written: dict[str, Any] = json.loads(report.read_text()) if report.exists() else {}
    report.unlink(missing_ok=True)
    if error := written.get("runtimeError"):
        return written, error["message"]
    return written, done.stderr.decode()[-1000:] if done.returncode else None


def _scores(reports: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Out of 100; -1 where Lighthouse gave none."""
    named = {name: [report["categories"][name]["score"] for report in reports] for name in WANTED}
    return {name: -1 if None in found else round(100 * median(found)) for name, found in named.items()}


def _times(reports: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Medians of what performance is made of: milliseconds, and the layout's shift as it is."""
    names = ("first-contentful-paint", "largest-contentful-paint", "total-blocking-time", "speed-index")
    names += ("cumulative-layout-shift",)
    return {name: median(report["audits"][name]["numericValue"] for report in reports) for name in names}


def _failed(reports: Sequence[dict[str, Any]]) -> dict[str, str]:
    """Audits that were not passed in some run: id, and what the first such run says. Some weigh nothing in the score."""
    failed: dict[str, str] = {}
    for report in reports:
        for category in report["categories"].values():
            for counted in category["auditRefs"]:
                audit = report["audits"][counted["id"]]
                if audit["score"] is not None and audit["score"] < 0.9:
                    weight = f"{audit['score']:.2f}" if counted["weight"] else "advice"
                    said = f"{category['id']}: {audit['title']} ({weight}) {audit.get('displayValue', '')}"
                    failed.setdefault(audit["id"], "\n".join([said.strip(), *_where(audit)]))
    return failed


def _where(audit: dict[str, Any]) -> list[str]:
    """The first places that an audit names: pieces of HTML or addresses."""
    items = (audit.get("details") or {}).get("items") or []
    if not isinstance(items, list):  # of a tree or a single thing
        return []
    places = [item.get("node", {}).get("snippet") or item.get("url") or item.get("description") for item in items[:5]]
    return [f"    {place[:200]}" for place in places if isinstance(place, str)]


def _tell(page: str, measured: dict[str, Any]) -> None:
    click.echo(page)
    click.echo("  " + ", ".join(f"{name} {score:.0f}" for name, score in measured["scores"].items()))
    click.echo("  " + ", ".join(f"{name} {value:.3g}" for name, value in measured["times"].items()))
    for said in measured["failed"].values():
        click.echo(f"  {said}")


if __name__ == "__main__":
    main()
