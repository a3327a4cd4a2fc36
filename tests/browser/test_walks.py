"""What a person does, on everything running: a venue, ingest, a worker, the web service and Redis, each a process of its own.

Every page fails its test on a console error or a breach of the policy (conftest.py).
"""

from __future__ import annotations

import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from playwright.sync_api import Page, expect
from redis import Redis

from tests.browser.conftest import PHONE, OpenPage, take_picture
from tests.browser.stack import EVERYTHING, Stack, stack_on
from tests.browser.test_page import drawn, luminance
from tests.conftest import redis_server
from tests.processes import eventually
from tests.venue_server import VenueServer
from tests.web_server import unheard_of

pytestmark = pytest.mark.timeout(240)

MINUTE_MS = 60_000
LONG = {"Horizon, candles": "300", "Paths": "150"}  # some seconds of work for the bundled model
ENDLESS = {"Horizon, candles": "448", "Paths": "10000"}


@pytest.fixture
def venue() -> Iterator[VenueServer]:
    with VenueServer() as server:
        yield server


@pytest.fixture
def stack(redis: Redis, redis_url: str, venue: VenueServer, tmp_path: Path) -> Iterator[Stack]:
    """A stack of its own, of which nothing runs yet."""
    with stack_on(redis, redis_url, venue.url, tmp_path) as own:
        yield own


@pytest.fixture
def minutes(redis: Redis, redis_url: str, tmp_path: Path) -> Iterator[tuple[Stack, VenueServer]]:
    """A stack on candles of a minute, and its venue, whose first one closes 20 s from now, so that nobody waits longer."""
    ahead_ms = -(time.time_ns() // 1_000_000 + 20_000) % MINUTE_MS
    knobs = {
        "KRONOS_DATA__INTERVAL": "1m",
        "KRONOS_VENUES__SETTLE_SECONDS": "0",
        "KRONOS_VENUES__SEARCH_SECONDS": "1",
    }
    with (
        VenueServer(lambda: time.time_ns() // 1_000_000 + ahead_ms) as venue,
        stack_on(redis, redis_url, venue.url, tmp_path, **knobs) as own,
    ):
        own.start(*EVERYTHING)
        yield own, venue


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """One stack for those who only use it: two series, each with a forecast."""
    folder = tmp_path_factory.mktemp("house")
    with redis_server(folder) as port, VenueServer() as venue, Redis(port=port) as redis:
        url = f"redis://127.0.0.1:{port}/0"
        with stack_on(redis, url, venue.url, folder, KRONOS_DATA__SERIES="ETHUSDT:1h") as shared:
            shared.start(*EVERYTHING)
            for symbol in ("BTCUSDT", "ETHUSDT"):
                shared.first_forecast(symbol)
            yield shared


def ask_for(page: Page, **wishes: str) -> str:
    """Fill in the form as it says, send it, and return the id of the forecast on whose page the person lands."""
    page.get_by_text("New forecast").click()
    for label, value in wishes.items():
        page.get_by_label(label, exact=True).fill(value)
    page.get_by_role("button", name="Ask for it").click()
    page.wait_for_url("**/forecasts/adhoc-*")
    return urlsplit(page.url).path.rsplit("/", 1)[1]


def not_reloaded(page: Page) -> bool:
    return bool(page.evaluate("window.notReloaded"))


def test_who_comes_first_sees_what_is_missing_and_then_the_first_forecast_without_a_reload(
    stack: Stack, page: Page
) -> None:
    stack.start("web")
    page.goto(stack.address)
    page.evaluate("window.notReloaded = true")
    expect(page.locator(".notice-title")).to_have_text(["NO FORECAST YET", "NO WORKER"])
    said = page.locator(".notice-text")
    expect(said.first).to_contain_text("kronos-live ingest")
    expect(said.last).to_contain_text("kronos-live worker")
    take_picture(page, "first-visit")
    stack.start("ingest")
    expect(said.first).to_contain_text("kronos-live worker")  # klines are there, and nobody to forecast from them
    stack.start("worker")
    forecast = stack.first_forecast()
    drawn(page)
    expect(page.locator(".notice-title")).to_have_text(["LIVE", "BUNDLED MODEL"])
    assert float(page.locator("#last-price").get_attribute("value") or "nan") == pytest.approx(forecast.last_close)
    expect(page.locator("#next-update")).to_have_text(re.compile(r"^in \d"))
    assert not_reloaded(page)


def test_a_worker_is_killed_while_it_computes_the_page_says_so_and_a_new_one_finishes(
    stack: Stack, redis: Redis, page: Page
) -> None:
    stack.start(*EVERYTHING)
    stack.first_forecast()
    page.goto(stack.address)
    forecast_id = ask_for(page, **LONG)
    page.evaluate("window.notReloaded = true")
    expect(page.locator(".progress")).to_contain_text("drawing paths")
    [killed] = stack.queue.worker_statuses(time.time_ns() // 1_000_000)
    stack.running("worker").end(signal.SIGKILL)
    unheard_of(redis, killed.name, seconds=61)  # a minute passes
    expect(page.locator(".notice-title")).to_have_text([re.compile("^WORKER SILENT since"), "COMPUTING A FORECAST"])
    expect(page.locator(".notice.worker .notice-text")).to_contain_text("start one with: kronos-live worker")
    take_picture(page, "worker-killed")
    stack.start("worker")
    expect(page.locator(".notice.worker")).to_have_count(0)
    expect(page.locator(".notice-text").first).to_contain_text(", try 2", timeout=30_000)
    eventually(lambda: stack.forecasts.exists(forecast_id), 90, stack.explain)
    drawn(page)
    expect(page.locator(".notice-title")).to_have_text(["BUNDLED MODEL"])
    assert not_reloaded(page)


def test_data_that_goes_stale_while_the_page_is_open_is_called_so_and_is_live_again_when_the_venue_is(
    minutes: tuple[Stack, VenueServer], page: Page
) -> None:
    stack, venue = minutes
    page.goto(stack.address)
    page.evaluate("window.notReloaded = true")
    states = page.locator(".notice-title")
    expect(states).to_have_text(["LIVE", "BUNDLED MODEL"], timeout=60_000)
    venue.fail("500", times=None)
    expect(states.first).to_contain_text("STALE since", timeout=90_000)
    told = httpx.get(f"{stack.address}/api/v1/forecasts/latest", timeout=30, trust_env=False).json()["freshness"]
    notice = page.locator(".notice.stale")
    assert (notice.locator("time").get_attribute("datetime") or "")[:19] == told["since"][:19]
    expect(notice.locator(".notice-text")).to_contain_text("binance")
    expect(page.locator("#upside-prob")).to_be_visible()  # the last forecast stays, under that word
    take_picture(page, "gone-stale")
    venue.faults.clear()
    expect(states).to_have_text(["LIVE", "BUNDLED MODEL"], timeout=90_000)
    assert not_reloaded(page)


def test_a_person_goes_to_another_symbol_and_back(house: Stack, page: Page) -> None:
    page.goto(house.address)
    for symbol in ("ETHUSDT", "BTCUSDT"):
        page.get_by_role("link", name=f"{symbol} 1h").click()
        expect(page.locator("h1")).to_have_text(symbol)
        drawn(page)
        shown = float(page.locator("#last-price").get_attribute("value") or "nan")
        assert shown == pytest.approx(house.first_forecast(symbol).last_close)


def test_a_new_forecast_is_followed_to_its_end_and_its_address_can_be_given_to_others(
    house: Stack, page: Page, open_page: OpenPage
) -> None:
    page.goto(house.address)
    forecast_id = ask_for(page, **{"Horizon, candles": "12", "Paths": "60", "Temperature": "1", "top-p": "1"})
    drawn(page)
    made = house.forecasts.load(forecast_id)
    assert (made.request.horizon, made.request.num_samples, made.request.temperature) == (12, 60, 1.0)
    expect(page.locator("#upside-prob")).to_have_attribute("value", str(made.upside.value))
    friend = open_page()
    friend.goto(page.url)
    drawn(friend)
    assert friend.locator("#upside-prob").inner_text() == page.locator("#upside-prob").inner_text()


def test_a_running_forecast_is_cancelled_and_the_worker_is_free_for_the_next(house: Stack, page: Page) -> None:
    page.goto(house.address)
    forecast_id = ask_for(page, **ENDLESS)
    expect(page.locator(".progress")).to_contain_text("drawing paths")
    page.get_by_role("button", name="Cancel this forecast").click()
    expect(page.locator(".notice-title")).to_have_text(["FORECAST CANCELLED"])
    eventually(lambda: not house.queue.overview(time.time_ns() // 1_000_000).running, 30, house.explain)
    assert not house.forecasts.exists(forecast_id)
    page.goto(house.address)
    ask_for(page, **{"Horizon, candles": "6"})
    drawn(page)


def test_on_a_phone_in_the_dark_in_chinese_a_person_does_the_same(house: Stack, open_page: OpenPage) -> None:
    phone = open_page(
        viewport=PHONE, locale="zh-CN", timezone_id="Asia/Shanghai", color_scheme="dark", is_mobile=True, has_touch=True
    )
    phone.goto(house.address)
    drawn(phone)
    phone.get_by_text("新建预测").tap()
    phone.locator("[name=horizon]").fill("12")
    phone.locator("#ask-form [type=submit]").tap()
    phone.wait_for_url("**/forecasts/adhoc-*")
    drawn(phone)
    expect(phone.locator("html")).to_have_attribute("lang", "zh-Hans")
    expect(phone.locator(".notice-title")).to_have_text(["随附模型"])
    assert luminance(phone) < 60
    assert phone.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    phone.locator("#theme").tap()
    assert luminance(phone) > 200
    phone.get_by_role("link", name="English").tap()
    expect(phone.get_by_role("heading", name="Upside probability")).to_be_visible()
    assert luminance(phone) > 200
