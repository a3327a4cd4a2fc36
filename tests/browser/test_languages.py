"""The page in Chinese as in English: chosen by the browser, by the switch, and everywhere at once."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Page, expect
from redis import Redis

from services.web.situation import Stores
from tests.browser.conftest import Complaints, OpenPage
from tests.browser.test_page import drawn
from tests.web_server import forecast_stored, ingested, newest_closed_candle, worker_alive

# Names, units and what another program has said: the same in every language.
NAMES = set(
    """kronos live small nano mini base english btcusdt json csv api top hub utc gmt cpu float worker binance
    aaaaaaaaaa""".split()  # noqa: SIM905 - shorter to read
)


@pytest.fixture
def chinese(open_page: OpenPage) -> Page:
    """A page as someone sees it whose browser speaks Chinese."""
    return open_page(locale="zh-CN", timezone_id="Asia/Shanghai")


def english_words(page: Page) -> set[str]:
    return {word.lower() for word in re.findall(r"\b[A-Za-z]{2,}\b", page.locator("body").inner_text())} - NAMES


def test_a_chinese_browser_reads_everything_in_chinese(
    chinese: Page, web_address: str, redis: Redis, stores: Stores
) -> None:
    forecast_stored(stores, ingested(stores, origin="simulated"), source="bundled")
    worker_alive(redis)
    chinese.goto(web_address)
    drawn(chinese)
    expect(chinese.locator("html")).to_have_attribute("lang", "zh-Hans")
    expect(chinese.locator(".notice-title")).to_have_text(["模拟数据", "随附模型"])
    expect(chinese.locator("#chart .annotation-text")).to_have_text(["模拟数据", "随附模型"])
    expect(chinese.locator("#outcome-title")).to_have_text("第 24 步，共 24 步")
    expect(chinese.locator("#next-update")).to_have_text(re.compile("后$|^即将更新$"))
    expect(chinese.locator("#update-time")).to_have_text("刚刚")
    chinese.locator("#steps summary").click()
    assert english_words(chinese) == set()
    labels = chinese.locator("main [aria-label]").evaluate_all("all => all.map((one) => one.ariaLabel)")
    assert [label for label in labels if not re.search("[\u4e00-\u9fff]", label)] == []


def test_the_switch_changes_the_language_and_is_remembered(page: Page, web_address: str, stores: Stores) -> None:
    forecast_stored(stores, ingested(stores))
    page.goto(web_address)
    expect(page.locator("html")).to_have_attribute("lang", "en")
    page.get_by_role("link", name="中文").click()
    drawn(page)
    expect(page.get_by_role("heading", name="上涨概率")).to_be_visible()
    page.goto(web_address)
    expect(page.get_by_role("heading", name="上涨概率")).to_be_visible()
    page.get_by_role("link", name="English").click()
    expect(page.get_by_role("heading", name="Upside probability")).to_be_visible()


@pytest.mark.parametrize(
    ("origin", "state", "title"),
    [("live", "live", "实时"), ("live", "stale", "已过时"), ("recorded", "recorded", "录制数据")],
)
def test_states_are_named_in_chinese(
    chinese: Page, web_address: str, stores: Stores, origin: str, state: str, title: str
) -> None:
    forecast_stored(stores, ingested(stores, origin=origin, state=state))  # type: ignore[arg-type]
    chinese.goto(web_address)
    drawn(chinese)
    expect(chinese.locator(".notice-title").first).to_contain_text(title)
    expect(chinese.locator(".notice.worker .notice-title")).to_have_text("没有工作进程")
    assert english_words(chinese) - {"ingest"} == set()


def test_an_error_page_speaks_chinese_too(chinese: Page, complaints: Complaints, web_address: str) -> None:
    complaints.expected = ["404"]
    chinese.goto(f"{web_address}/nowhere")
    expect(chinese.locator("h1")).to_have_text("未找到")


def test_before_the_first_forecast_it_says_in_chinese_what_to_do(
    chinese: Page, web_address: str, stores: Stores
) -> None:
    ingested(stores, last_open_time_ms=newest_closed_candle())
    chinese.goto(web_address)
    expect(chinese.locator(".notice.waiting .notice-text")).to_contain_text("请启动 `kronos-live worker`")
