"""The static site in a real browser: served by Python's own web server, and opened from its folder."""

from __future__ import annotations

import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from services.publishing.folder import write_whole
from services.publishing.site import site_files
from services.publishing.told import tell
from services.web.situation import Stores
from shared.klines import Interval
from tests.browser.conftest import PHONE, OpenPage
from tests.conftest import free_port
from tests.processes import eventually
from tests.web_server import HOUR_MS, forecast_stored, ingested

CONTRAST = (Path(__file__).parent / "contrast.js").read_text()


@pytest.fixture
def site(stores: Stores, tmp_path: Path) -> Path:
    window = ingested(stores, origin="simulated")
    forecast_stored(stores, window, source="bundled")
    now_ms = window.last_close_time_ms + HOUR_MS // 2
    told = tell(stores.klines, stores.forecasts, "BTCUSDT", Interval.H1, now_ms, calibrates=True)
    write_whole(tmp_path / "site", site_files(told))
    return tmp_path / "site"


@pytest.fixture
def served(site: Path) -> Iterator[str]:
    """As README says: python3 -m http.server."""
    port = free_port()
    address = f"http://127.0.0.1:{port}/"
    command = [sys.executable, "-m", "http.server", str(port), "--bind", "127.0.0.1", "--directory", str(site)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        eventually(lambda: _answers(address), 30)
        yield address
    finally:
        server.terminate()
        server.wait(timeout=60)


def _answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(address, timeout=30):
            return True
    except OSError:
        return False


def _is_whole(page: Page) -> None:
    """Its picture is there in full and its style is used."""
    expect(page.get_by_role("heading", level=1)).to_have_text("BTCUSDT 1h")
    expect(page.locator("#upside")).to_have_text("46.7 %")
    expect(page.locator(".label strong")).to_have_text(["SIMULATED DATA", "BUNDLED MODEL", "UNCALIBRATED"])
    assert (
        page.evaluate(
            "document.querySelector('#chart').decode().then(() => document.querySelector('#chart').naturalWidth)"
        )
        > 0
    )
    assert page.evaluate("getComputedStyle(document.querySelector('.said')).display") == "grid"


def test_it_works_when_served_by_pythons_own_server(page: Page, served: str) -> None:
    page.goto(served)
    _is_whole(page)


def test_it_works_from_a_file_without_scripts(open_page: OpenPage, site: Path) -> None:
    page = open_page()
    page.goto((site / "index.html").as_uri())
    _is_whole(page)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_is_readable_on_a_phone_in_light_and_dark(open_page: OpenPage, served: str, scheme: str) -> None:
    page = open_page(viewport=PHONE, color_scheme=scheme)
    page.goto(served)
    _is_whole(page)
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    weak = [f"{one['ratio']:.2f} {one['text']}" for one in page.evaluate(CONTRAST) if one["ratio"] < 4.5]
    assert not weak
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(13, 17, 23)"
    assert dark == (scheme == "dark")
