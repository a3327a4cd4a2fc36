"""README's pictures, taken of a running stack: `make screenshots` copies them from the tests' output into docs/images.

No venue answers there, so what they show is made up, and each has to say so in big letters inside the picture.
"""

from __future__ import annotations

import base64
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect
from redis import Redis

from tests.browser.conftest import PICTURES, OpenPage
from tests.browser.stack import EVERYTHING, Stack, stack_on
from tests.browser.test_page import drawn
from tests.conftest import redis_server, skip_or_fail
from tests.ingest_parts import nowhere

pytestmark = pytest.mark.timeout(240)

FOR_README = PICTURES / "readme"
MOST_BYTES = 150_000
DESKTOP = {"width": 1280, "height": 1200}
PHONE = {"width": 390, "height": 1200}


@pytest.fixture(scope="module")
def made_up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A stack whose venues cannot be reached, with its first forecast."""
    folder = tmp_path_factory.mktemp("made-up")
    with (
        redis_server(folder) as port,
        Redis(port=port) as redis,
        stack_on(redis, f"redis://127.0.0.1:{port}/0", nowhere(), folder) as own,
    ):
        own.start(*EVERYTHING)
        own.first_forecast(origin="simulated")
        yield own


def take_for_readme(page: Page, name: str, said: str) -> None:
    """Keep what the window shows as WebP, half the size of PNG; `said` is the state's label, which must be seen in it."""
    width, ends = page.evaluate(
        "[innerWidth, document.querySelector('.chart-frame').getBoundingClientRect().bottom + scrollY]"
    )
    page.set_viewport_size({"width": width, "height": round(ends) + 24})  # as long as it takes to the end of the chart
    page.evaluate("scrollTo(0, 0)")
    label = page.locator(".notice.simulated .notice-title")
    expect(label).to_have_text(said)
    expect(label).to_be_in_viewport(ratio=1)
    expect(page.locator("#chart .annotation-text").first).to_be_in_viewport()
    shown = page.context.new_cdp_session(page).send("Page.captureScreenshot", {"format": "webp", "quality": 82})
    picture = base64.b64decode(shown["data"])
    FOR_README.mkdir(parents=True, exist_ok=True)
    (FOR_README / f"{name}.webp").write_bytes(picture)
    assert 10_000 < len(picture) <= MOST_BYTES


def test_the_dashboard(made_up: Stack, open_page: OpenPage) -> None:
    page = open_page(viewport=DESKTOP)
    page.goto(made_up.address)
    drawn(page)
    take_for_readme(page, "dashboard", "SIMULATED DATA")


def test_a_forecast_in_chinese_and_dark_with_its_single_paths(made_up: Stack, open_page: OpenPage) -> None:
    fonts = (
        subprocess.run(["fc-list", ":lang=zh-cn"], capture_output=True, check=False)
        if shutil.which("fc-list")
        else None
    )
    if fonts is None or not fonts.stdout:
        skip_or_fail("browser", "no font writes Chinese here (Debian: apt-get install fontconfig fonts-noto-cjk)")
    page = open_page(viewport=DESKTOP, locale="zh-CN", timezone_id="Asia/Shanghai", color_scheme="dark")
    page.goto(made_up.address)
    page.locator("#ask summary").click()
    for name, value in {"num_samples": "100", "temperature": "1", "top_p": "1", "horizon": "48"}.items():
        page.locator(f"#ask-form [name={name}]").fill(value)
    page.locator("#ask-form [type=submit]").click()
    page.wait_for_url("**/forecasts/adhoc-*")
    drawn(page)
    page.locator('[data-view="paths:shown"]').click()
    page.locator('[data-view="history:candles"]').click()
    take_for_readme(page, "forecast-dark-zh", "模拟数据")


def test_the_dashboard_on_a_phone(made_up: Stack, open_page: OpenPage) -> None:
    page = open_page(viewport=PHONE, device_scale_factor=1.5, is_mobile=True, has_touch=True)
    page.goto(made_up.address)
    drawn(page)
    take_for_readme(page, "phone", "SIMULATED DATA")


def test_readme_shows_these_pictures() -> None:
    project = Path(__file__).parents[2]
    shown = {project / "docs" / "images" / f"{name}.webp" for name in ("dashboard", "forecast-dark-zh", "phone")}
    assert {picture for picture in shown if picture.name in (project / "README.md").read_text()} == shown
    assert all(10_000 < picture.stat().st_size <= MOST_BYTES for picture in shown)
