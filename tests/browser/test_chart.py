"""What a person does with the chart: how it is drawn, what it says of a step, and the price they ask about."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from playwright.sync_api import Page, expect

from services.web.situation import Stores
from shared.forecasts import Forecast
from shared.klines import CLOSE, HIGH, LOW, OPEN
from shared.statistics import wilson_share
from tests.browser.conftest import PHONE
from tests.browser.test_page import drawn
from tests.web_server import forecast_stored, ingested


def role(page: Page, name: str) -> dict[str, Any]:
    """The last trace of a role, as Plotly has it: of a band, its upper edge."""
    return [trace for trace in all_traces(page) if trace["meta"]["role"] == name][-1]


def all_traces(page: Page) -> list[dict[str, Any]]:
    drawn(page)
    wanted = "({x, y, meta, type, visible, open, high, low, close})"
    return list(page.evaluate(f"document.getElementById('chart').data.map({wanted} => {wanted})"))


def point_at_step(page: Page, step: int) -> None:
    """Move the mouse to where a step of the forecast is drawn."""
    page.locator("#chart").scroll_into_view_if_needed()
    place = page.evaluate(
        """(step) => {
            const chart = document.getElementById('chart'), { xaxis, yaxis } = chart._fullLayout;
            const mean = chart.data.find((one) => one.meta.role === 'mean');
            const box = chart.getBoundingClientRect();
            return [box.left + xaxis._offset + xaxis.d2p(mean.x[step]), box.top + yaxis._offset + yaxis.d2p(mean.y[step])];
        }""",
        step,
    )
    page.mouse.move(place[0] - 1, place[1] + 3)
    page.mouse.move(*place)


def stored_paths(stores: Stores, forecast: Forecast) -> NDArray[np.float64]:
    return stores.forecasts.load_paths(forecast.id).astype(np.float64)


def test_candles_log_scale_and_single_paths_are_switched_and_remembered(
    page: Page, web_address: str, stores: Stores
) -> None:
    window = ingested(stores)
    forecast = forecast_stored(stores, window)
    page.goto(web_address)
    assert role(page, "history")["visible"] is True
    assert role(page, "history candles")["visible"] is False
    for name in ("Candles", "Log", "Single paths"):
        page.get_by_role("button", name=name).click()
    for _ in range(2):  # and once more after a reload
        candles = role(page, "history candles")
        assert (candles["type"], candles["visible"]) == ("candlestick", True)
        columns = {"open": OPEN, "high": HIGH, "low": LOW, "close": CLOSE}
        assert {name: candles[name] for name in columns} == {
            name: window.values[-120:, column].tolist() for name, column in columns.items()
        }
        assert role(page, "history")["visible"] is False
        assert page.evaluate("document.getElementById('chart')._fullLayout.yaxis.type") == "log"
        closes = [value for value in role(page, "paths")["y"] if value is not None]
        paths = stored_paths(stores, forecast)[:, :, CLOSE]
        expected = np.concatenate([np.full((30, 1), forecast.last_close), paths], axis=1)
        np.testing.assert_allclose(closes, expected.ravel())
        expect(page.get_by_role("button", name="Log")).to_have_attribute("aria-pressed", "true")
        page.reload()
    page.get_by_role("button", name="Single paths").click()
    assert "paths" not in {trace["meta"]["role"] for trace in all_traces(page)}


def test_the_volume_has_bands_of_its_own(page: Page, web_address: str, stores: Stores) -> None:
    forecast = forecast_stored(stores, ingested(stores))
    page.goto(web_address)
    for band in forecast.volume.bands:
        assert role(page, f"volume band {band.level}")["y"] == band.upper


def test_pointing_at_a_step_shows_its_distribution_and_histogram(page: Page, web_address: str, stores: Stores) -> None:
    forecast = forecast_stored(stores, ingested(stores))
    page.goto(web_address)
    drawn(page)
    expect(page.locator("#outcome-title")).to_have_text("Step 24 of 24")
    point_at_step(page, 7)
    expect(page.locator("#outcome-title")).to_have_text("Step 7 of 24")
    closes = stored_paths(stores, forecast)[:, 6, CLOSE]
    shown = page.locator("#outcome-numbers")
    for value in (closes.mean(), np.median(closes), *np.quantile(closes, (0.1, 0.9), method="weibull")):
        expect(shown).to_contain_text(f"{value:,.2f}")
    expect(shown).to_contain_text(f"{closes.min():,.2f} – {closes.max():,.2f}")
    expect(shown.locator("dt").nth(4)).to_have_text("range of the paths")
    above = wilson_share(int((closes > forecast.last_close).sum()), 30)
    expect(shown).to_contain_text(f"{above.value:.1%}".replace("%", "\u00a0%"))
    counts = json.loads(page.locator("#outcome-histogram").get_attribute("data-counts") or "[]")
    assert sum(counts) == 30
    assert counts == np.histogram(closes, len(counts))[0].tolist()
    assert page.locator("#outcome-time").get_attribute("title") == (
        np.datetime64(forecast.open_times_ms[6], "ms").astype("datetime64[s]").item().strftime("%Y-%m-%d %H:%M:%S UTC")
    )


def test_steps_are_walked_through_with_the_keyboard(page: Page, web_address: str, stores: Stores) -> None:
    forecast_stored(stores, ingested(stores))
    page.goto(web_address)
    drawn(page)
    slider = page.get_by_role("slider", name="Step of the forecast")
    slider.focus()
    page.keyboard.press("ArrowLeft")
    expect(page.locator("#outcome-title")).to_have_text("Step 23 of 24")
    expect(slider).to_have_attribute("aria-valuetext", "Step 23 of 24")
    page.keyboard.press("Home")
    expect(page.locator("#outcome-title")).to_have_text("Step 1 of 24")
    expect(page.locator("#step-mark")).to_be_visible()


def test_a_tap_shows_a_step_on_a_phone(page: Page, web_address: str, stores: Stores) -> None:
    forecast_stored(stores, ingested(stores))
    page.set_viewport_size(PHONE)  # type: ignore[arg-type]
    page.goto(web_address)
    drawn(page)
    page.locator("#chart").scroll_into_view_if_needed()
    point_at_step(page, 12)
    page.mouse.down()
    page.mouse.up()
    expect(page.locator("#outcome-title")).to_have_text("Step 12 of 24")


def test_what_a_person_has_chosen_stays_when_the_next_forecast_comes(
    page: Page, web_address: str, stores: Stores
) -> None:
    window = ingested(stores)
    first = forecast_stored(stores, window)
    page.goto(f"{web_address}/forecasts/{first.id}")
    drawn(page)
    page.evaluate("window.chartBefore = document.getElementById('chart')")
    slider = page.get_by_role("slider", name="Step of the forecast")
    slider.focus()
    page.keyboard.press("Home")
    changed = first.model_copy(update={"upside": first.upside.model_copy(update={"paths": 15, "value": 0.5})})
    moved = changed.close.model_copy(update={"mean": [value * 1.01 for value in changed.close.mean]})
    stores.forecasts.save(changed.model_copy(update={"close": moved}), stores.forecasts.load_paths(first.id))
    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    expect(page.locator("#upside-prob")).to_have_text("50.0\u00a0%")
    expect(page.locator("#outcome-title")).to_have_text("Step 1 of 24")
    expect(slider).to_be_focused()
    assert page.evaluate("window.chartBefore === document.getElementById('chart')")
    assert page.locator("#chart .main-svg").count() > 0


def touched(stores: Stores, forecast: Forecast, price: float) -> int:
    """How many paths reach a price, by all four prices of their candles."""
    prices = stored_paths(stores, forecast)[:, :, : CLOSE + 1]
    reached = prices >= price if price >= forecast.last_close else prices <= price
    return int(reached.any(axis=(1, 2)).sum())


@pytest.mark.parametrize("share", [1.01, 0.99, 1.2])
def test_a_typed_price_is_touched_as_often_as_the_stored_paths_say(
    page: Page, web_address: str, stores: Stores, share: float
) -> None:
    forecast = forecast_stored(stores, ingested(stores))
    page.goto(web_address)
    drawn(page)
    price = round(forecast.last_close * share, 2)
    page.get_by_label("Price", exact=True).fill(str(price))
    expected = wilson_share(touched(stores, forecast, price), 30)
    expect(page.locator("#touch-share")).to_have_text(f"{expected.value * 100:.1f}\u00a0%")
    expect(page.locator("#touch-note")).to_contain_text(f"{expected.paths} of 30 paths")
    expect(page.locator("#touch-note")).to_contain_text("rise to" if share > 1 else "fall to")
    digits = 0 if expected.lower >= 0.01 and expected.upper <= 0.99 else 1
    interval = f"({expected.lower * 100:.{digits}f}–{expected.upper * 100:.{digits}f}\u00a0%)"
    expect(page.locator("#touch-error")).to_have_text(interval)
    line = page.locator("#touch-line")
    expect(line).to_have_attribute("aria-valuenow", f"{price:g}" if price.is_integer() else str(price))
    outside = page.evaluate(
        "(price) => { const [low, high] = chart._fullLayout.yaxis.range; return price > high }", price
    )
    assert ("outside" in (line.get_attribute("class") or "")) is outside


def test_a_price_is_dragged_along_the_chart_and_moved_with_the_keys(
    page: Page, web_address: str, stores: Stores
) -> None:
    forecast = forecast_stored(stores, ingested(stores))
    page.goto(web_address)
    drawn(page)
    page.get_by_role("button", name="Log").click()  # the line must find its price on either scale
    field = page.get_by_label("Price", exact=True)
    field.fill(str(round(forecast.last_close, 2)))
    line = page.locator("#touch-line")
    box = line.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 12)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] - 18, steps=4)
    page.mouse.up()
    price = float(field.input_value())
    assert price > forecast.last_close
    at = page.evaluate(
        "(price) => { const { yaxis } = chart._fullLayout; return yaxis._offset + yaxis.d2p(price) }", price
    )
    assert line.evaluate("(one) => parseFloat(one.style.top)") == pytest.approx(at, abs=1)
    expect(page.locator("#touch-note")).to_contain_text(f"{touched(stores, forecast, price)} of 30 paths")
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 90)  # let go: it stays
    assert float(field.input_value()) == price
    line.focus()
    page.keyboard.press("ArrowDown")
    assert float(field.input_value()) == pytest.approx(price - 0.001 * forecast.last_close, abs=0.011)


def test_each_figure_has_its_monte_carlo_error_drawn(page: Page, web_address: str, stores: Stores) -> None:
    forecast = forecast_stored(stores, ingested(stores))
    page.goto(web_address)
    drawn(page)
    bars = page.locator(".figures .meter i")
    expect(bars).to_have_count(3)
    widths = bars.evaluate_all("all => all.map((one) => one.getBoundingClientRect().width)")
    assert min(widths) > 5
    returns = stored_paths(stores, forecast)[:, -1, CLOSE] / forecast.last_close - 1
    half = 1.96 * returns.std(ddof=1) / np.sqrt(30) * 100
    centre = (forecast.close.mean[-1] / forecast.last_close - 1) * 100
    low, high = (f"{value:+.2f}".replace("-", "−") for value in (centre - half, centre + half))
    expect(page.locator("#expected-return-error")).to_have_text(f"({low} – {high}\u00a0%)")
