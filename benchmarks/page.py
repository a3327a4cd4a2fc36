"""`python -m benchmarks.page`: how soon the page is ready, its chart drawn, on a server of its own with a forecast to show.

Counts from the start of the navigation to the frame after the one that shows Plotly's chart, by the browser's own clock, as
someone sees it who comes for the first time: each run is a new Chromium with nothing in its cache.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
from pathlib import Path
from statistics import median

import click
from playwright.sync_api import sync_playwright

from benchmarks.web import web_with_a_forecast
from tests.browser.conftest import DESKTOP, FLAGS

WANTED_S = 1.5
CHROMIUMS = ("chromium", "chromium-browser", "google-chrome")

# The page says `forecastdrawn` once Plotly has drawn; two frames later that is on the screen.
NOTE_WHEN_DRAWN = """
window.chartReady = new Promise((tell) => document.addEventListener("forecastdrawn", () =>
  requestAnimationFrame(() => requestAnimationFrame(() => {
    const lines = document.querySelectorAll("#chart .main-svg .scatterlayer path.js-line").length;
    tell({ seconds: performance.now() / 1000, lines });
  })), { once: true }));
"""


@click.command(help=__doc__)
@click.option("--repeat", default=5, type=click.IntRange(1), show_default=True)
@click.option(
    "--latency-ms",
    default=0,
    type=click.IntRange(0),
    help="that each answer is held up, as if from afar",
)
@click.option("--json", "as_json", is_flag=True)
def main(repeat: int, latency_ms: int, as_json: bool) -> None:
    browser = chromium()
    with tempfile.TemporaryDirectory() as folder, web_with_a_forecast(Path(folder)) as address:
        load = os.getloadavg()[0]
        seconds = [_ready_after(address, browser, latency_ms) for _ in range(repeat)]
    measured = {
        "ready_s": median(seconds),
        "runs": seconds,
        "wanted_s": WANTED_S,
        "latency_ms": latency_ms,
        "cores": os.cpu_count(),
        "load": load,
    }
    if as_json:
        click.echo(json.dumps(measured))
    else:
        runs = ", ".join(f"{one:.2f}" for one in seconds)
        click.echo(f"page ready, chart drawn: {median(seconds):.2f} s (median of {runs}; wanted {WANTED_S} s)")
    sys.exit(median(seconds) > WANTED_S)


def chromium() -> str:
    """Where it is. Raises SystemExit where there is none."""
    found = os.environ.get("CHROME_PATH") or next(filter(None, map(shutil.which, CHROMIUMS)), None)
    if found is None:
        raise SystemExit("No Chromium is on the PATH (Debian: apt-get install chromium): name one in CHROME_PATH.")
    return found


def _ready_after(address: str, executable: str, latency_ms: int) -> float:
    """Seconds from the start of the navigation, in a browser of its own."""
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=executable, args=FLAGS)
        try:
            page = browser.new_page(viewport=DESKTOP)  # type: ignore[arg-type]
            page.add_init_script(NOTE_WHEN_DRAWN)
            if latency_ms:
                slowly = {"offline": False, "latency": latency_ms, "downloadThroughput": -1, "uploadThroughput": -1}
                page.context.new_cdp_session(page).send("Network.emulateNetworkConditions", slowly)
            page.goto(address)
            ready = page.evaluate("window.chartReady")
            if not ready["lines"]:
                raise SystemExit("The page said that the chart is drawn, but no line is in it.")
            return float(ready["seconds"])
        finally:
            browser.close()


if __name__ == "__main__":
    main()
