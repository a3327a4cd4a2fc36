"""A headless Chromium, the system's own, driven by Playwright: `page` fails its test on whatever the browser complains of.

What each page looked like at the end of its test is kept in build/screenshots, and in it what tests have taken on the way.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, Error, Page, Playwright, Request, expect, sync_playwright
from redis import Redis

from services.web.situation import Stores
from tests.conftest import PROJECT, skip_or_fail
from tests.web_server import stores_on, web_server

FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
expect.set_options(timeout=15_000)  # milliseconds; Playwright waits for 5,000, too few on a busy machine
PICTURES = PROJECT / "build" / "screenshots"
DESKTOP = {"width": 1280, "height": 900}
PHONE = {"width": 375, "height": 760}
NOTE_BREACHES = """
addEventListener("securitypolicyviolation", (e) => console.error(`policy: ${e.violatedDirective} ${e.blockedURI}`))
"""


class Complaints:
    """What a page did that no page of ours may do. `expected` names words of complaints that a test provokes."""

    def __init__(self) -> None:
        self.expected: list[str] = []
        self._heard: list[str] = []

    def listen_to(self, page: Page) -> None:
        page.add_init_script(NOTE_BREACHES)
        page.on("console", lambda message: self._note(message.text) if message.type in {"error", "warning"} else None)
        page.on("pageerror", lambda error: self._note(f"exception: {error}"))
        page.on("request", self._check_host)

    def unexpected(self) -> list[str]:
        return [heard for heard in self._heard if not any(words in heard for words in self.expected)]

    def _note(self, complaint: str) -> None:
        self._heard.append(complaint)

    def _check_host(self, request: Request) -> None:
        address = urlsplit(request.url)
        if address.scheme not in {"data", "blob", "file"} and address.hostname not in {"127.0.0.1", "localhost"}:
            self._note(f"asked another host: {request.url}")


@pytest.fixture(scope="session")
def playwright() -> Iterator[Playwright]:
    with sync_playwright() as driver:
        yield driver


@pytest.fixture(scope="session")
def browser(playwright: Playwright) -> Iterator[Browser]:
    """Chromium as the system has it; tests that need it are skipped, or failed, where there is none."""
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if found is None:
        skip_or_fail("browser", "no chromium is on the PATH (Debian: apt-get install chromium)")
    try:
        launched = playwright.chromium.launch(executable_path=found, args=FLAGS)
    except Error as error:
        skip_or_fail("browser", f"{found} does not start: {str(error).splitlines()[0]}")
    yield launched
    launched.close()


@pytest.fixture
def complaints() -> Iterator[Complaints]:
    """Checked when the test is over."""
    heard = Complaints()
    yield heard
    assert heard.unexpected() == []


OpenPage = Callable[..., Page]


@pytest.fixture
def open_page(browser: Browser, complaints: Complaints, request: pytest.FixtureRequest) -> Iterator[OpenPage]:
    """Opens a page in a window of its own, in UTC, English and light, on a desktop; what is named is otherwise."""
    opened: list[Page] = []

    def open_one(**otherwise: Any) -> Page:
        usual = {"viewport": DESKTOP, "locale": "en-GB", "timezone_id": "UTC", "color_scheme": "light"}
        context = browser.new_context(**{**usual, **otherwise})
        context.set_default_timeout(20_000)
        opened.append(context.new_page())
        complaints.listen_to(opened[-1])
        return opened[-1]

    yield open_one
    for number, page in enumerate(opened):
        with suppress(Error):  # a page that no longer answers has no picture, and its test has failed already
            take_picture(page, request.node.name + (f"-{number + 1}" if number else ""))
        page.context.close()


def take_picture(page: Page, name: str) -> None:
    """Keep what the whole page looks like now as test output."""
    PICTURES.mkdir(parents=True, exist_ok=True)
    file = re.sub(r"[^\w-]+", "-", name).strip("-")
    page.screenshot(path=PICTURES / f"{file}.png", full_page=True, timeout=10_000)


@pytest.fixture
def page(open_page: OpenPage) -> Page:
    """A page as most people see it; tests change what they need to."""
    return open_page()


@pytest.fixture(scope="session")
def web_address(redis_port: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with web_server(f"redis://127.0.0.1:{redis_port}/0", tmp_path_factory.mktemp("web")) as (address, _):
        yield address


@pytest.fixture
def stores(redis: Redis) -> Stores:
    """The stores behind the page, empty."""
    return stores_on(redis)
