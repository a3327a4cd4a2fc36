"""The track record as people read it: in both languages, on a phone, dark and light, and from the dashboard."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect
from redis import Redis

from services.web.situation import Stores
from tests.browser.conftest import OpenPage
from tests.browser.test_page import drawn
from tests.integration.test_web_record import SCORED, scored
from tests.web_server import ingested, worker_alive

CONTRAST = (Path(__file__).parent / "contrast.js").read_text()


@pytest.fixture(autouse=True)
def _scored(redis: Redis, stores: Stores) -> None:
    history = scored(redis)
    ingested(stores, last_open_time_ms=history.last_open_time_ms)
    worker_alive(redis)


def test_from_the_dashboard_to_the_record_and_on_to_a_miss(page: Page, web_address: str) -> None:
    page.goto(web_address)
    drawn(page)
    expect(page.locator(".caution")).to_contain_text(f"CHECKED against {SCORED} outcomes.")
    page.locator(".caution").get_by_role("link", name="Track record").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Track record")
    expect(page.locator("#coverage")).to_be_visible()
    expect(page.get_by_role("row", name=re.compile("^random walk, EWMA"))).to_be_visible()
    page.locator("section", has=page.locator("#worst")).get_by_role("link").first.click()
    drawn(page)
    expect(page.locator(".notice-title", has_text="PAST FORECAST")).to_be_visible()


def test_the_record_speaks_chinese(open_page: OpenPage, web_address: str) -> None:
    page = open_page(locale="zh-CN")
    page.goto(f"{web_address}/track-record")
    expect(page.get_by_role("heading", level=1)).to_have_text("预测记录")
    words = {word.lower() for word in re.findall(r"\b[A-Za-z]{2,}\b", page.locator("main").inner_text())}
    assert words <= set("btcusdt kronos small crps ewma brier pit top csv parquet json utc".split())  # noqa: SIM905


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_record_is_readable_on_a_phone(open_page: OpenPage, web_address: str, scheme: str) -> None:
    page = open_page(viewport={"width": 390, "height": 844}, color_scheme=scheme)
    page.goto(f"{web_address}/track-record")
    expect(page.locator("#crps")).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    weak = [f"{one['ratio']:.2f} {one['text']}" for one in page.evaluate(CONTRAST) if one["ratio"] < 4.5]
    assert weak == []


@pytest.mark.parametrize(("locale", "title"), [("en-GB", "Skill over time"), ("zh-CN", "技巧随时间的变化")])
def test_the_charts_are_drawn_and_follow_dark_and_light(
    open_page: OpenPage, web_address: str, locale: str, title: str
) -> None:
    page = open_page(locale=locale, color_scheme="light")
    page.goto(f"{web_address}/track-record")
    charts = page.locator(".record-chart")
    expect(charts.first.locator(".scatterlayer .trace")).to_have_count(1)
    assert charts.count() == page.locator(".record-chart .main-svg:first-child").count() >= 4
    expect(page.locator("#chart-skill")).to_contain_text(title)
    for link in page.locator(".record-charts figcaption a").all():
        expect(page.locator(link.get_attribute("href") or "")).to_be_visible()
    shares = page.evaluate("[...document.querySelectorAll('.record-chart')].at(-1).data[0].y")
    assert sum(shares) == pytest.approx(1)
    line = page.locator(".record-chart .scatterlayer .js-line").first
    light = line.evaluate("one => one.style.stroke")
    page.locator("#theme").click()
    expect(line).not_to_have_css("stroke", light)
