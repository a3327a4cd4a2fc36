"""Raw and recalibrated side by side: a person chooses which bands are drawn, and never takes one number for the other."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Page, expect
from redis import Redis

from services.web.situation import Stores
from shared.forecasts import Forecast
from tests.browser.conftest import PHONE, OpenPage
from tests.browser.test_chart import all_traces, point_at_step, role
from tests.browser.test_page import drawn
from tests.integration.test_web_record import SCORED, scored
from tests.recalibrated_forecasts import newest_forecast
from tests.web_server import forecast_stored, ingested, worker_alive


@pytest.fixture
def forecast(redis: Redis, stores: Stores) -> Forecast:
    worker_alive(redis)
    made = newest_forecast(redis, stores, scored(redis))
    assert made.recalibrated
    return made


def bands_drawn(page: Page) -> set[str]:
    return {role for trace in all_traces(page) if re.search(r"^(recalibrated )?band", role := trace["meta"]["role"])}


RAW = {f"band {level}" for level in (50, 80, 95)}
RECALIBRATED = {f"recalibrated {name}" for name in RAW}


def test_bands_are_raw_until_a_person_wants_them_recalibrated_and_that_is_remembered(
    page: Page, web_address: str, forecast: Forecast
) -> None:
    page.goto(web_address)
    assert bands_drawn(page) == RAW
    expect(page.locator(".legend")).to_contain_text("80 % band, raw")
    expect(page.locator(".chart-bands")).to_be_hidden()

    button = page.get_by_role("button", name="Recalibrated bands")
    button.focus()
    page.keyboard.press("Enter")
    expect(button).to_have_attribute("aria-pressed", "true")
    expect(page.get_by_role("button", name="Raw bands")).to_have_attribute("aria-pressed", "false")
    assert bands_drawn(page) == RECALIBRATED
    assert forecast.recalibrated
    band = next(one for one in forecast.recalibrated.bands if one.level == 80)
    assert role(page, "recalibrated band 80")["y"][1:] == pytest.approx(band.upper)
    expect(page.locator(".legend")).to_contain_text("80 % band, recalibrated")
    expect(page.locator(".legend")).not_to_contain_text("80 % band, raw", use_inner_text=True)
    expect(page.locator(".chart-bands")).to_contain_text(f"recalibrated by {SCORED} scored forecasts")
    point_at_step(page, 12)
    expect(page.locator("#chart .hoverlayer")).to_contain_text("80 % band, recalibrated")

    page.reload()
    assert bands_drawn(page) == RECALIBRATED
    page.get_by_role("button", name="Raw bands").click()
    assert bands_drawn(page) == RAW


def test_the_second_number_says_that_it_is_the_recalibrated_one(
    page: Page, web_address: str, forecast: Forecast
) -> None:
    page.goto(web_address)
    recalibrated = forecast.recalibrated
    assert recalibrated
    assert recalibrated.volatility_amplification is not None
    card = page.locator(".figure", has=page.locator("#vol-amp-prob"))
    expect(card.get_by_role("heading")).to_contain_text("raw")
    expect(card.locator("#vol-amp-prob")).to_have_text("46.7\u00a0%")
    second = card.locator("#vol-amp-prob-recalibrated")
    expect(second).to_have_text(f"{recalibrated.volatility_amplification * 100:.1f}\u00a0%")
    expect(card.locator(".second")).to_contain_text(f"recalibrated by {SCORED} scored forecasts")
    drawn(page)
    expect(page.locator("#outcome-numbers")).to_contain_text("80 % band, recalibrated")
    page.locator("#steps summary").click()
    expect(page.locator("#steps thead")).to_contain_text("95 % band, recalibrated")


def test_a_choice_that_a_forecast_cannot_follow_leaves_the_raw_bands(
    page: Page, web_address: str, redis: Redis, stores: Stores
) -> None:
    worker_alive(redis)
    forecast_stored(stores, ingested(stores))
    page.add_init_script("""localStorage.setItem("chart", JSON.stringify({ bands: "recalibrated" }))""")
    page.goto(web_address)
    assert bands_drawn(page) == RAW
    expect(page.get_by_role("button", name="Recalibrated bands")).to_have_count(0)
    expect(page.locator(".legend")).to_contain_text("80 % band")
    expect(page.locator(".legend")).not_to_contain_text("raw")
    expect(page.locator("#not-recalibrated")).to_contain_text("0 there are, 30 are still needed")


def test_on_a_phone_in_chinese_both_are_there(open_page: OpenPage, web_address: str, forecast: Forecast) -> None:
    page = open_page(viewport=PHONE, locale="zh-CN", color_scheme="dark", has_touch=True)
    page.goto(web_address)
    page.get_by_role("button", name="重新校准区间").tap()
    assert bands_drawn(page) == RECALIBRATED
    expect(page.locator(".legend")).to_contain_text("80 % 区间（重新校准）")
    expect(page.locator("#vol-amp-prob-recalibrated")).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
