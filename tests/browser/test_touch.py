"""A finger on a phone: the chart's threshold is dragged, a step is pointed at, and the page still scrolls."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, CDPSession, Page, expect

from services.web.situation import Stores
from tests.browser.conftest import PHONE, Complaints
from tests.browser.test_chart import touched
from tests.browser.test_page import drawn
from tests.web_server import forecast_stored, ingested


@pytest.fixture
def phone(browser: Browser, complaints: Complaints) -> Iterator[Page]:
    """A page on a touch screen of a phone's width: its pointer is coarse, and it gets no mouse."""
    context = browser.new_context(
        viewport=PHONE,  # type: ignore[arg-type]
        has_touch=True,
        is_mobile=True,
        device_scale_factor=2,
        locale="en-GB",
        timezone_id="UTC",
    )
    context.set_default_timeout(20_000)
    page = context.new_page()
    complaints.listen_to(page)
    yield page
    context.close()


class Finger:
    """One finger, by the events that a touch screen's driver would send."""

    def __init__(self, page: Page) -> None:
        self._page = page
        self._session: CDPSession = page.context.new_cdp_session(page)

    def _send(self, kind: str, *points: tuple[float, float]) -> None:
        touches = [{"x": x, "y": y, "id": 1} for x, y in points]
        self._session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": touches})

    def tap(self, x: float, y: float) -> None:
        self._send("touchStart", (x, y))
        self._send("touchEnd")

    def drag(self, x: float, y: float, to_x: float, to_y: float, steps: int = 8) -> None:
        self._send("touchStart", (x, y))
        for step in range(1, steps + 1):
            self._send("touchMove", (x + (to_x - x) * step / steps, y + (to_y - y) * step / steps))
            self._page.wait_for_timeout(16)  # as often as a screen tells
        self._send("touchEnd")


def place_of_step(page: Page, step: int) -> tuple[float, float]:
    x, y = page.evaluate(
        """(step) => {
            const chart = document.getElementById('chart'), { xaxis, yaxis } = chart._fullLayout;
            const mean = chart.data.find((one) => one.meta.role === 'mean');
            const box = chart.getBoundingClientRect();
            return [box.left + xaxis._offset + xaxis.d2p(mean.x[step]), box.top + yaxis._offset + yaxis.d2p(mean.y[step])];
        }""",
        step,
    )
    return x, y


def in_view(page: Page) -> None:
    page.evaluate("document.getElementById('chart').scrollIntoView({ block: 'center', behavior: 'instant' })")


def test_the_threshold_is_dragged_with_a_finger_and_the_page_stays_where_it_is(
    phone: Page, web_address: str, stores: Stores
) -> None:
    forecast = forecast_stored(stores, ingested(stores))
    phone.goto(web_address)
    drawn(phone)
    field = phone.get_by_label("Price", exact=True)
    field.fill(str(round(forecast.last_close, 2)))
    phone.evaluate("document.activeElement.blur()")
    in_view(phone)
    before = phone.evaluate("scrollY")
    box = phone.locator("#touch-line").bounding_box()
    assert box is not None
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    Finger(phone).drag(x, y, x + 3, y - 40)
    price = float(field.input_value())
    assert price > forecast.last_close
    at = phone.evaluate(
        "(price) => chart.getBoundingClientRect().top + chart._fullLayout.yaxis._offset + chart._fullLayout.yaxis.d2p(price)",
        price,
    )
    assert at == pytest.approx(y - 40, abs=2)
    expect(phone.locator("#touch-note")).to_contain_text(f"{touched(stores, forecast, price)} of 30 paths")
    assert phone.evaluate("scrollY") == before


def test_the_threshold_is_tall_enough_for_a_finger(phone: Page, web_address: str, stores: Stores) -> None:
    forecast_stored(stores, ingested(stores))
    phone.goto(web_address)
    drawn(phone)
    box = phone.locator("#touch-line").bounding_box()
    assert box is not None
    assert box["height"] >= 40


def test_a_tap_points_at_a_step(phone: Page, web_address: str, stores: Stores) -> None:
    forecast_stored(stores, ingested(stores))
    phone.goto(web_address)
    drawn(phone)
    in_view(phone)
    finger = Finger(phone)
    for step in (12, 5, 20):
        finger.tap(*place_of_step(phone, step))
        expect(phone.locator("#outcome-title")).to_have_text(f"Step {step} of 24")
        expect(phone.locator("#step-mark")).to_be_visible()


def test_a_finger_that_moves_along_the_chart_points_at_step_after_step(
    phone: Page, web_address: str, stores: Stores
) -> None:
    forecast_stored(stores, ingested(stores))
    phone.goto(web_address)
    drawn(phone)
    in_view(phone)
    phone.evaluate(
        """() => { window.pointed = []; document.addEventListener('steppointed', ({ detail }) => pointed.push(detail)) }"""
    )
    (x, y), (to_x, to_y) = place_of_step(phone, 4), place_of_step(phone, 18)
    Finger(phone).drag(x, y, to_x, to_y, steps=14)
    expect(phone.locator("#outcome-title")).to_have_text("Step 18 of 24")
    pointed: list[Any] = phone.evaluate("pointed")
    assert len(set(pointed)) >= 8
    assert pointed == sorted(pointed)


def test_a_finger_that_moves_up_the_chart_scrolls_the_page(phone: Page, web_address: str, stores: Stores) -> None:
    forecast_stored(stores, ingested(stores))
    phone.goto(web_address)
    drawn(phone)
    in_view(phone)
    before = phone.evaluate("scrollY")
    x, y = place_of_step(phone, 3)
    Finger(phone).drag(x - 60, y + 40, x - 60, y - 200, steps=12)
    phone.wait_for_timeout(300)
    assert phone.evaluate("scrollY") > before + 100
