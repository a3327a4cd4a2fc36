"""The track record as people read it: in both languages, on a phone, dark and light, and from the dashboard."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect
from redis import Redis

from services.web.situation import Stores
from shared.klines import Interval
from shared.ledger import Ledger
from shared.track_record import track_record
from tests.browser.conftest import OpenPage
from tests.browser.test_page import drawn, modules
from tests.integration.test_imported_record import published
from tests.integration.test_web_record import SCORED, scored
from tests.recalibrated_forecasts import outcomes
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
    expect(page.get_by_role("heading", level=1)).to_have_text("Track record BTCUSDT 1h")
    expect(page.locator("#coverage")).to_be_visible()
    expect(page.get_by_role("row", name=re.compile("^random walk, EWMA"))).to_be_visible()
    page.locator("section", has=page.locator("#worst")).get_by_role("link").first.click()
    drawn(page)
    expect(page.locator(".notice-title", has_text="PAST FORECAST")).to_be_visible()


def test_the_record_speaks_chinese(open_page: OpenPage, web_address: str) -> None:
    page = open_page(locale="zh-CN")
    page.goto(f"{web_address}/track-record")
    expect(page.get_by_role("heading", level=1)).to_have_text("预测记录 BTCUSDT 1h")
    words = {word.lower() for word in re.findall(r"\b[A-Za-z]{2,}\b", page.locator("main").inner_text())}
    commands = "live backtest symbol temperature seed ledger"
    assert words <= set(f"btcusdt kronos small crps ewma garch brier pit top csv parquet json utc {commands}".split())


@pytest.mark.parametrize(("scheme", "locale"), [("light", "en-GB"), ("dark", "zh-CN")])
def test_what_was_imported_stands_beside_it_on_a_phone_too(
    open_page: OpenPage, web_address: str, redis: Redis, scheme: str, locale: str, tmp_path: Path
) -> None:
    published(redis, Ledger(redis).entries("BTCUSDT", Interval.H1, "live"))
    page = open_page(viewport={"width": 390, "height": 844}, color_scheme=scheme, locale=locale)
    page.goto(f"{web_address}/track-record")
    card = page.locator("section", has=page.locator("#imported"))
    expect(card.get_by_role("heading", level=3)).to_have_text("kronos-demo (imported)")
    expect(card.get_by_role("table")).to_have_count(2)
    card.screenshot(path=tmp_path / "imported.png")
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


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
    assert charts.count() >= 4
    for chart in charts.all():
        chart.scroll_into_view_if_needed()
        expect(chart.locator(".main-svg").first).to_be_visible()
    expect(page.locator("#chart-skill")).to_contain_text(title)
    for link in page.locator(".record-charts figcaption a").all():
        numbers = page.locator("details", has=page.locator(link.get_attribute("href") or ""))
        expect(numbers).not_to_have_attribute("open", "")
        link.click()
        expect(numbers.get_by_role("table")).to_be_visible()
        numbers.locator("summary").click()
    shares = page.evaluate("[...document.querySelectorAll('.record-chart')].at(-1).data[0].y")
    assert sum(shares) == pytest.approx(1)
    line = page.locator(".record-chart .scatterlayer .js-line").first
    light = line.evaluate("one => one.style.stroke")
    page.locator("#theme").click()
    expect(line).not_to_have_css("stroke", light)


def test_misses_are_drawn_when_a_person_comes_to_them(page: Page, web_address: str) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url) if "/api/v1/forecasts/" in request.url else None)
    page.goto(f"{web_address}/track-record")
    misses = page.locator(".miss")
    expect(misses).to_have_count(5)
    expect(page.locator(".record-chart[data-drawn]").last).to_be_attached()
    assert asked == []
    misses.last.scroll_into_view_if_needed()
    for miss in misses.all():
        expect(miss).to_have_attribute("data-drawn", "whole")
    assert len(asked) == 5
    traces = misses.first.evaluate("one => one.data.map(({ name, y }) => [name, y])")
    names = [name for name, _ in traces if name]
    assert names == ["range of the paths", "80 % band", "50 % band", "median", "what then happened"]
    told = json.loads(misses.first.get_attribute("data-miss") or "")
    assert traces[-1] == ["what then happened", [told["last"], *told["closes"]]]
    page.locator("#theme").click()
    expect(misses.first).to_have_attribute("data-drawn", "whole")
    assert len(asked) == 5, "another colour asks nobody anew"


def test_a_miss_whose_forecast_is_gone_shows_what_the_ledger_has_and_says_so(
    page: Page, web_address: str, stores: Stores, redis: Redis
) -> None:
    series = ("BTCUSDT", Interval.H1, "live")
    record = track_record(Ledger(redis).entries(*series))
    assert record
    worst = record.worst[0].forecast_id
    gone = [key for key in redis.scan_iter(f"*{worst}*")]
    assert gone
    redis.delete(*gone)
    page.goto(f"{web_address}/track-record")
    first = page.locator(".misses figure").first
    expect(first.locator("figcaption")).to_contain_text("The forecast itself is no longer kept")
    expect(first.get_by_role("link")).to_have_count(0)
    first.scroll_into_view_if_needed()
    expect(first.locator(".miss")).to_have_attribute("data-drawn", "outcome")
    expect(page.locator(".misses figure").nth(1).get_by_role("link")).to_have_count(1)


def test_what_is_folded_away_is_on_paper(page: Page, web_address: str) -> None:
    page.goto(f"{web_address}/track-record")
    expect(page.locator(".record-chart[data-drawn]").last).to_be_attached()
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    expect(page.locator("details:not([open])")).to_have_count(0)
    expect(page.locator(".record-chart:not([data-drawn]), .miss:not([data-drawn])")).to_have_count(0)
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    expect(page.locator("details[open]")).to_have_count(0)


def test_the_headline_of_the_record_is_on_the_dashboard(page: Page, web_address: str) -> None:
    page.goto(web_address)
    verdict = page.locator(".verdict")
    expect(verdict).to_contain_text(f"TOO FEW SCORED YET {SCORED} of 120 forecasts are scored")
    verdict.get_by_role("link").click()
    expect(page.locator("#verdict")).to_contain_text("TOO FEW SCORED YET")


def test_drift_is_among_the_notices_until_it_is_over(
    page: Page, web_address: str, stores: Stores, redis: Redis
) -> None:
    (template,) = Ledger(redis).entries("BTCUSDT", Interval.H1, "live", newest=1)
    fine = [number % 5 != 0 for number in range(200)]  # four of five, as the 80 % band says
    outcomes(redis, template, [*fine, *[False] * 60], name="astray")
    page.goto(web_address)
    notice = page.locator(".notice.drift")
    expect(notice).to_contain_text("DRIFT")
    expect(notice).to_contain_text("The raw 80 % band held 32.0")
    expect(notice).to_contain_text("take them for too narrow")
    page.goto(f"{web_address}/?lang=zh")
    expect(notice).to_contain_text("偏移")
    page.goto(f"{web_address}/?lang=en")
    notice.get_by_role("link", name="Track record").click()
    expect(page.locator("#drift")).to_contain_text("DRIFT")

    page.goto(web_address)
    expect(notice).to_be_visible()
    last = Ledger(redis).entries("BTCUSDT", Interval.H1, "live", newest=1)[0]
    outcomes(redis, last, [number % 5 != 0 for number in range(100)], name="again")
    page.evaluate("document.dispatchEvent(new Event('refreshwanted'))")  # as it does by itself within a minute
    expect(notice).to_have_count(0)


def test_every_series_is_a_step_away_with_the_same_origin(page: Page, web_address: str, stores: Stores) -> None:
    ingested(stores, symbol="ETHUSDT")
    page.goto(f"{web_address}/track-record?origin=recorded")
    page.get_by_role("navigation", name="Symbol and interval").get_by_role("link", name="ETHUSDT 1h").click()
    expect(page).to_have_url(re.compile("symbol=ETHUSDT&interval=1h&origin=recorded"))
    expect(page.locator("#verdict")).to_contain_text("NOTHING SCORED YET")
    expect(page.get_by_role("heading", name="How a record comes about")).to_be_visible()
    page.goto(f"{web_address}/track-record?origin=recorded")
    page.get_by_role("navigation", name="Where the klines came from").get_by_role("link", name="live").click()
    expect(page.locator("#crps")).to_be_visible()


@pytest.mark.parametrize("place", ["/", "/track-record"])
def test_many_series_are_folded_up_and_still_a_step_away(
    page: Page, web_address: str, stores: Stores, place: str
) -> None:
    for number in range(20):
        ingested(stores, symbol=f"C{number}USDT", candles=100)
    page.goto(f"{web_address}{place}")
    links = page.get_by_role("navigation", name="Symbol and interval")
    expect(links).to_be_hidden()
    page.get_by_text(re.compile("All 2[01] series")).click()
    links.get_by_role("link", name="C17USDT 1h").click()
    expect(page).to_have_url(re.compile("symbol=C17USDT&interval=1h"))


def test_every_module_is_told_beforehand_and_fetched_once(page: Page, web_address: str) -> None:
    told, fetched = modules(page, f"{web_address}/track-record")
    assert sorted([*told, "record.js", "theme.js", "plotly-finance.min.js"]) == sorted(fetched)


def test_a_record_of_nothing_fetches_no_chart_library(page: Page, web_address: str) -> None:
    scripts: list[str] = []
    page.on("request", lambda one: scripts.append(one.url.rsplit("/", 1)[1]) if one.url.endswith(".js") else None)
    page.goto(f"{web_address}/track-record?origin=recorded")
    expect(page.locator("#verdict")).to_contain_text("NOTHING SCORED YET")
    page.wait_for_load_state("networkidle")
    assert scripts == ["theme.js"]
