"""Past forecasts on the page: stepped through, and drawn against what then happened."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from services.web.situation import Stores
from shared.klines import CLOSE, HIGH, VOLUME
from tests.browser.conftest import PHONE, Complaints
from tests.browser.test_chart import all_traces, role
from tests.browser.test_page import drawn
from tests.past_forecasts import Market


def at(forecast_id: str) -> re.Pattern[str]:
    return re.compile(rf"/forecasts/{forecast_id}$")


def closes_drawn(page: Page) -> list[float]:
    return [value for value in role(page, "outcome")["y"][1:] if value is not None]


def test_a_past_forecast_is_drawn_against_what_then_happened(page: Page, web_address: str, stores: Stores) -> None:
    market = Market(stores)
    forecast = market.forecast(7)
    newest = market.ingest(0)
    page.goto(f"{web_address}/forecasts/{forecast.id}")
    drawn(page)
    assert role(page, "outcome")["y"] == [forecast.last_close, *newest.values[-7:, CLOSE].tolist()]
    assert role(page, "outcome volume")["y"] == newest.values[-7:, VOLUME].tolist()
    assert role(page, "outcome candles")["visible"] is False
    roles = [trace["meta"]["role"] for trace in all_traces(page)]
    assert roles.index("outcome") > roles.index("band 50")
    page.get_by_role("button", name="Candles").click()
    candles = role(page, "outcome candles")
    assert (candles["visible"], candles["high"]) == (True, newest.values[-7:, HIGH].tolist())
    assert role(page, "outcome")["visible"] is False
    expect(page.locator("#walk-closed")).to_have_text("7 of 24 candles have closed since.")
    expect(page.locator(".legend")).to_contain_text("what then happened")
    expect(page.locator("#then")).to_contain_text("One forecast, not a track record.")
    change = newest.last_close / forecast.last_close - 1
    assert float(page.locator("#then-change").get_attribute("value") or "nan") == pytest.approx(change)
    page.locator("#steps summary").click()
    came = page.locator("#steps td:last-child")
    expect(came.nth(6)).to_have_text(f"{newest.last_close:,.2f}")
    expect(came.nth(7)).to_have_text("–")
    expect(page.locator("#outcome-numbers")).not_to_contain_text("Close that came")  # of step 24
    slider = page.get_by_role("slider", name="Step of the forecast")
    slider.fill("7")
    expect(page.locator("#outcome-numbers")).to_contain_text(f"Close that came{newest.last_close:,.2f}")
    marked = "() => document.getElementById('outcome-histogram')._fullLayout.shapes.map((one) => one.x0)"
    assert newest.last_close in page.evaluate(marked)
    low, high = page.evaluate("() => document.getElementById('outcome-histogram')._fullLayout.xaxis.range")
    assert low <= newest.last_close <= high
    colours = page.evaluate(
        """["history", "mean", "outcome"].map((role) => chart.data.find((one) => one.meta.role === role).line.color)"""
    )
    assert len(set(colours)) == 3


def test_forecasts_are_stepped_through_by_buttons_without_a_reload_and_each_step_is_an_address(
    page: Page, web_address: str, stores: Stores
) -> None:
    market = Market(stores)
    made = [market.forecast(hours) for hours in (6, 3, 0)]
    page.goto(web_address)
    expect(page.get_by_role("link", name="Next forecast")).to_be_disabled()
    page.get_by_role("link", name="Previous forecast").click()
    expect(page).to_have_url(at(made[1].id))
    drawn(page)
    expect(page.locator(".notice-title").first).to_have_text("PAST FORECAST")
    page.evaluate("window.notReloaded = true")
    page.get_by_role("link", name="Previous forecast").click()
    expect(page).to_have_url(at(made[0].id))
    expect(page.locator("#walk-closed")).to_have_text("6 of 24 candles have closed since.")
    page.wait_for_function("(id) => document.getElementById('chart').dataset.drawn?.includes(id)", arg=made[0].id)
    assert len(closes_drawn(page)) == 6
    expect(page.get_by_role("link", name="Previous forecast")).to_be_disabled()
    expect(page.get_by_role("link", name="中文")).to_have_attribute("href", f"/forecasts/{made[0].id}?lang=zh")
    page.go_back()
    expect(page.locator("#walk-closed")).to_have_text("3 of 24 candles have closed since.")
    page.wait_for_function("(id) => document.getElementById('chart').dataset.drawn?.includes(id)", arg=made[1].id)
    assert role(page, "mean")["y"][0] == made[1].last_close
    assert page.evaluate("window.notReloaded") is True
    page.reload()
    expect(page.locator("#walk-closed")).to_have_text("3 of 24 candles have closed since.")
    page.get_by_role("link", name="Latest forecast").click()
    expect(page).to_have_url(re.compile(r"/\?symbol=BTCUSDT&interval=1h$"))
    expect(page.locator("#walk-closed")).to_have_text("0 of 24 candles have closed since.")
    expect(page.locator("#then")).to_have_count(0)


def test_the_arrow_keys_step_but_are_not_taken_from_whatever_needs_them(
    page: Page, web_address: str, stores: Stores
) -> None:
    market = Market(stores)
    made = [market.forecast(hours) for hours in (6, 3, 0)]
    page.goto(f"{web_address}/forecasts/{made[1].id}")
    drawn(page)
    here = page.url
    page.locator("#steps summary").click()
    for taken in ("#touch-line", "#outcome-step", "#touch-price", "#steps .table"):
        page.locator(taken).focus()
        for key in ("ArrowLeft", "ArrowRight"):
            page.keyboard.press(key)
        assert page.url == here, taken
    page.evaluate("document.activeElement.blur()")
    for chord in ("Control+ArrowLeft", "Shift+ArrowRight"):
        page.keyboard.press(chord)
        assert page.url == here, chord
    page.keyboard.press("ArrowRight")
    expect(page).to_have_url(at(made[2].id))
    expect(page.locator("#walk-closed")).to_have_text("0 of 24 candles have closed since.")
    page.keyboard.press("ArrowRight")  # there is none
    assert page.url.endswith(made[2].id)
    for forecast, closed in ((made[1], 3), (made[0], 6)):
        page.keyboard.press("ArrowLeft")
        expect(page).to_have_url(at(forecast.id))
        expect(page.locator("#walk-closed")).to_have_text(f"{closed} of 24 candles have closed since.")


def test_keys_pressed_in_quick_succession_end_where_the_last_one_leads(
    page: Page, web_address: str, stores: Stores
) -> None:
    market = Market(stores)
    made = [market.forecast(hours) for hours in (9, 6, 3, 0)]
    page.goto(f"{web_address}/forecasts/{made[3].id}")
    drawn(page)
    for _ in range(3):
        page.keyboard.press("ArrowLeft")
    for _ in range(3):
        page.wait_for_timeout(150)
        page.keyboard.press("ArrowLeft")
    expect(page).to_have_url(at(made[0].id))
    expect(page.locator("#walk-closed")).to_have_text("9 of 24 candles have closed since.")
    page.wait_for_function("(id) => document.getElementById('chart').dataset.drawn?.includes(id)", arg=made[0].id)
    assert role(page, "mean")["y"][0] == made[0].last_close


def test_without_a_script_the_links_lead_from_forecast_to_forecast(
    browser: Browser, web_address: str, stores: Stores
) -> None:
    market = Market(stores)
    made = [market.forecast(hours) for hours in (6, 3)]
    market.ingest(0)
    context = browser.new_context(java_script_enabled=False, locale="en-GB")
    plain = context.new_page()
    plain.goto(f"{web_address}/forecasts/{made[1].id}")
    plain.get_by_role("link", name="Previous forecast").click()
    expect(plain).to_have_url(at(made[0].id))
    expect(plain.locator("#walk-closed")).to_have_text("6 of 24 candles have closed since.")
    expect(plain.locator("#then")).to_contain_text("of 6 closes inside")
    context.close()


def test_another_candle_is_drawn_when_it_closes_and_the_page_stays_with_its_forecast(
    page: Page, web_address: str, stores: Stores
) -> None:
    market = Market(stores)
    forecast = market.forecast(7)
    market.ingest(1)
    with page.expect_response(lambda answer: "/api/v1/events?" in answer.url):
        page.goto(f"{web_address}/forecasts/{forecast.id}")
    drawn(page)
    assert len(closes_drawn(page)) == 6
    expect(page.locator("#then-why")).to_have_text("1 of the 7 closed candles have not been fetched.")
    page.evaluate("document.querySelector('main').dataset.pollS = '3600'")  # the stream alone tells
    slider = page.get_by_role("slider", name="Step of the forecast")
    slider.focus()
    page.keyboard.press("Home")
    newest = market.forecast(0)  # the candle, and the next forecast
    expect(page.locator("#then-why")).to_have_count(0)
    page.wait_for_function("() => chart.data.find((one) => one.meta.role === 'outcome').y.length === 8")
    assert closes_drawn(page)[-1] == newest.last_close
    assert page.url.endswith(forecast.id)
    assert role(page, "mean")["y"][0] == forecast.last_close
    expect(page.locator("#outcome-title")).to_have_text("Step 1 of 24")
    expect(slider).to_be_focused()
    expect(page.get_by_role("link", name="Next forecast")).to_have_attribute("href", f"/forecasts/{newest.id}")
    expect(page.get_by_role("link", name="Latest forecast")).to_be_visible()


def test_a_step_to_a_forecast_that_retention_has_dropped_says_so(
    page: Page, complaints: Complaints, web_address: str, stores: Stores, redis: Any
) -> None:
    complaints.expected = ["404"]
    market = Market(stores)
    made = [market.forecast(hours) for hours in (6, 3)]
    page.goto(f"{web_address}/forecasts/{made[1].id}")
    drawn(page)
    redis.delete(f"kronos:forecast:{made[0].id}")
    page.get_by_role("link", name="Previous forecast").click()
    expect(page.locator("h1")).to_have_text("Not Found")


def test_a_stale_front_page_draws_what_has_followed_since(page: Page, web_address: str, stores: Stores) -> None:
    market = Market(stores)
    market.forecast(5)
    newest = market.ingest(0)  # candles come, but no worker makes a forecast of them
    page.goto(web_address)
    drawn(page)
    expect(page.locator(".notice-title").first).to_contain_text("STALE since")
    assert closes_drawn(page) == newest.values[-5:, CLOSE].tolist()
    expect(page.locator("#walk-closed")).to_have_text("5 of 24 candles have closed since.")


def test_what_then_happened_is_told_in_chinese(page: Page, web_address: str, stores: Stores) -> None:
    market = Market(stores)
    forecast = market.forecast(7)
    market.ingest(0)
    page.goto(f"{web_address}/forecasts/{forecast.id}?lang=zh")
    drawn(page)
    expect(page.locator("#then h2")).to_have_text("之后的实际走势")
    expect(page.get_by_role("link", name="上一个预测")).to_be_disabled()
    names = page.evaluate("chart.data.filter((one) => one.meta.role.startsWith('outcome')).map((one) => one.name)")
    assert names == ["之后的实际走势", "之后的实际走势", "之后的实际成交量"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_past_forecast_fits_a_phone_can_be_read_and_prints(
    page: Page, web_address: str, stores: Stores, scheme: Any
) -> None:
    market = Market(stores, origin="simulated", venue="simulated")
    forecast = market.forecast(30)
    market.ingest(10)  # and a sentence about what is missing
    page.set_viewport_size(PHONE)  # type: ignore[arg-type]
    page.emulate_media(color_scheme=scheme)
    page.goto(f"{web_address}/forecasts/{forecast.id}")
    drawn(page)
    expect(page.locator("#then-why")).to_have_text("4 of the 24 closed candles have not been fetched.")
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    for name in ("Previous forecast", "Next forecast", "Latest forecast"):
        box = page.get_by_role("link", name=name).bounding_box()
        assert box is not None
        assert box["height"] >= 40
    contrasts = page.evaluate(Path(__file__).with_name("contrast.js").read_text())
    assert [f"{one['ratio']:.2f} {one['text']}" for one in contrasts if one["ratio"] < 4.5] == []
    page.emulate_media(media="print")
    expect(page.locator(".walk")).to_be_hidden()
    for printed in ("#walk-closed", "#then", "#then-why", "#chart"):
        expect(page.locator(printed)).to_be_visible()
