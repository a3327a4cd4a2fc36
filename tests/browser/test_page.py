"""The page in a real browser, from the real server, on a real Redis."""

from __future__ import annotations

import re
import signal
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Page, expect
from redis import Redis

from services.web.situation import Stores
from shared.forecasts import scheduled_forecast_id
from tests.browser.conftest import PHONE, Complaints
from tests.builders import forecast_request
from tests.conftest import free_port
from tests.processes import eventually
from tests.web_server import (
    HOUR_MS,
    forecast_stored,
    ingested,
    job_as_running,
    newest_closed_candle,
    web_server,
    worker_alive,
)


def latest(address: str) -> dict[str, Any]:
    answer = httpx.get(f"{address}/api/v1/forecasts/latest", timeout=30, trust_env=False)
    return dict(answer.json())


def drawn(page: Page) -> list[dict[str, Any]]:
    """The traces that Plotly has drawn."""
    page.wait_for_selector("#chart[data-drawn] .plot-container")
    return list(
        page.evaluate("document.getElementById('chart').data.map(({x, y, meta, name}) => ({x, y, meta, name}))")
    )


def all_visible_text(page: Page) -> str:
    return page.locator("body").inner_text()


def test_the_figures_on_the_page_are_those_of_the_api(page: Page, web_address: str, stores: Stores) -> None:
    forecast_stored(stores, ingested(stores))
    page.goto(web_address)
    forecast = latest(web_address)["forecast"]
    for element, value in {
        "last-price": forecast["last_close"],
        "expected-return": forecast["close"]["mean"][-1] / forecast["last_close"] - 1,
        "upside-prob": forecast["upside"]["value"],
        "vol-amp-prob": forecast["volatility_amplification"]["value"],
    }.items():
        assert float(page.locator(f"#{element}").get_attribute("value") or "nan") == pytest.approx(value)
    expect(page.locator("#upside-prob")).to_have_text("46.7\u00a0%")
    expect(page.locator("#upside-prob-error")).to_have_text("(30–64\u00a0%)")
    assert "14 of 30 paths" in all_visible_text(page)


def test_the_chart_draws_the_klines_and_the_forecast_of_the_api(page: Page, web_address: str, stores: Stores) -> None:
    window = ingested(stores)
    forecast = forecast_stored(stores, window)
    page.goto(web_address)
    traces = {trace["meta"]["role"]: trace for trace in drawn(page)}
    assert traces["history"]["y"] == window.values[-120:, 3].tolist()
    assert traces["mean"]["y"][1:] == forecast.close.mean
    assert traces["median"]["y"][1:] == forecast.close.median
    assert traces["band 95"]["name"] == "range of the paths"
    assert len(traces["forecast volume"]["y"]) == 24
    for words in ("50 % band", "80 % band", "range of the paths", "mean of the paths", "median"):
        assert words in page.locator(".legend").inner_text()


def test_every_module_is_told_beforehand_and_fetched_once(page: Page, web_address: str, stores: Stores) -> None:
    forecast_stored(stores, ingested(stores))
    told, fetched = modules(page, web_address)
    assert sorted([*told, "page.js", "theme.js", "plotly-finance.min.js"]) == sorted(fetched)


def modules(page: Page, address: str) -> tuple[list[str], list[str]]:
    """The modules that a page tells beforehand, and the scripts that are fetched until its first chart is drawn."""
    fetched: list[str] = []
    page.on("request", lambda one: fetched.append(one.url.rsplit("/", 1)[1]) if one.url.endswith(".js") else None)
    page.goto(address)
    expect(page.locator(".main-svg").first).to_be_visible()
    told = page.locator("link[rel=modulepreload]").evaluate_all("all => all.map((one) => one.href.split('/').at(-1))")
    return told, fetched


def test_live_klines_are_called_live_and_nothing_speaks_of_simulation(
    page: Page, web_address: str, redis: Redis, stores: Stores
) -> None:
    forecast_stored(stores, ingested(stores))
    worker_alive(redis)
    page.goto(web_address)
    drawn(page)
    expect(page.locator(".notice-title")).to_have_text(["LIVE"])
    seen = all_visible_text(page).lower()
    for word in ("simulated", "bundled", "recorded", "stale", "no worker"):
        assert word not in seen


def test_simulated_klines_and_a_stand_in_model_are_called_so_in_big_letters(
    page: Page, web_address: str, redis: Redis, stores: Stores
) -> None:
    forecast_stored(stores, ingested(stores, origin="simulated"), source="bundled")
    worker_alive(redis)
    page.goto(web_address)
    drawn(page)
    titles = page.locator(".notice-title")
    expect(titles).to_have_text(["SIMULATED DATA", "BUNDLED MODEL"])
    sizes = titles.evaluate_all("all => all.map((one) => parseFloat(getComputedStyle(one).fontSize))")
    assert min(sizes) >= 20
    assert "stands in for Kronos-small" in all_visible_text(page)
    watermarks = page.locator("#chart .annotation-text")
    expect(watermarks).to_have_text(["SIMULATED DATA", "BUNDLED MODEL"])


def test_a_long_queue_is_said_with_what_to_do(page: Page, web_address: str, redis: Redis, stores: Stores) -> None:
    window = ingested(stores)
    forecast_stored(stores, window)
    worker_alive(redis)
    request = forecast_request(window.content_hash()[:16], scheduled=False)
    for number in range(8):
        stores.queue.enqueue(f"adhoc-{number}", request)
    page.goto(web_address)
    expect(page.locator(".notice-title")).to_have_text(["LIVE"])
    stores.queue.enqueue("adhoc-8", request)
    expect(page.locator(".notice-title")).to_have_text(["LIVE", "LONG QUEUE"])
    expect(page.locator(".notice.queue .notice-text")).to_have_text(
        "9 forecasts wait for 1 at work, so the next ones come late. Start another worker with: kronos-live worker"
    )


def test_it_prints_without_what_only_a_screen_can_do(page: Page, web_address: str, stores: Stores) -> None:
    forecast_stored(stores, ingested(stores))
    page.emulate_media(color_scheme="dark")
    page.goto(web_address)
    drawn(page)
    page.emulate_media(media="print")
    for unprinted in (".switches", ".chart-tools", "#outcome-step"):
        expect(page.locator(unprinted)).to_be_hidden()
    for printed in (".notice-title", "#upside-prob", "#chart", "#outcome-histogram", ".caution"):
        expect(page.locator(printed).first).to_be_visible()
    assert page.evaluate("getComputedStyle(document.documentElement).colorScheme") == "light"


def test_everything_that_can_be_done_is_reached_with_the_keyboard(page: Page, web_address: str, stores: Stores) -> None:
    forecast_stored(stores, ingested(stores))
    page.goto(web_address)
    drawn(page)
    reached = []
    for _ in range(40):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.id || document.activeElement.textContent.trim()"))
    wanted = [
        "To the content",
        "中文",
        "theme",
        "Candles",
        "Log",
        "Single paths",
        "touch-line",
        "outcome-step",
        "touch-price",
    ]
    assert [one for one in dict.fromkeys(reached) if one in wanted] == wanted
    page.keyboard.press("Shift+Tab")
    unnamed = page.evaluate(
        """[...document.querySelectorAll("button, a, input, select, [role=slider]")]
           .filter((one) => !(one.ariaLabel || one.textContent.trim() || one.labels?.length)).map((one) => one.outerHTML)"""
    )
    assert unnamed == []


def test_a_recording_is_called_so(page: Page, web_address: str, stores: Stores) -> None:
    forecast_stored(
        stores, ingested(stores, origin="recorded", last_open_time_ms=newest_closed_candle() - 9000 * HOUR_MS)
    )
    page.goto(web_address)
    expect(page.locator(".notice-title").first).to_have_text("RECORDED DATA")


def test_a_stale_forecast_says_since_when_and_why(page: Page, web_address: str, stores: Stores) -> None:
    last = newest_closed_candle() - 5 * HOUR_MS
    problem = "No venue answers: binance 451, okx 403, bybit 403."
    soon = newest_closed_candle() + 2 * HOUR_MS
    window = ingested(stores, last_open_time_ms=last, state="stale", problem=problem, next_fetch_at_ms=soon)
    forecast_stored(stores, window)
    page.goto(web_address)
    notice = page.locator(".notice.stale")
    expect(notice.locator(".notice-title")).to_contain_text("STALE since")
    expect(notice.locator(".notice-text")).to_have_text(problem)
    since = notice.locator("time").get_attribute("datetime") or ""
    assert since == latest(web_address)["freshness"]["since"]


def test_before_the_first_forecast_the_page_shows_how_far_it_is_and_then_the_forecast_without_a_reload(
    page: Page, web_address: str, redis: Redis, stores: Stores
) -> None:
    window = ingested(stores)
    worker_alive(redis)
    forecast_id = scheduled_forecast_id("BTCUSDT", window.interval, window.last_open_time_ms, window.origin)
    stores.queue.enqueue(forecast_id, forecast_request(window.content_hash()[:16]))
    page.goto(web_address)
    expect(page.locator(".notice-title")).to_have_text(["NO FORECAST YET", "FORECAST QUEUED"])
    page.evaluate("window.notReloaded = true")
    job_as_running(redis, forecast_id, 7, 24)
    expect(page.locator("progress")).to_have_attribute("value", "7")
    expect(page.locator(".progress")).to_contain_text("sampling, 7 of 24")
    forecast_stored(stores, window)
    expect(page.locator(".notice-title")).to_have_text(["LIVE"])
    drawn(page)
    expect(page.locator("#upside-prob")).to_have_text("46.7\u00a0%")
    assert page.evaluate("window.notReloaded") is True


def test_every_forecast_has_a_page_of_its_own_that_follows_it_until_it_is_there(
    page: Page, web_address: str, redis: Redis, stores: Stores
) -> None:
    window = ingested(stores)
    location = httpx.post(f"{web_address}/api/v1/forecasts", timeout=30, trust_env=False).headers["Location"]
    forecast_id = location.rsplit("/", 1)[1]
    page.goto(f"{web_address}/forecasts/{forecast_id}")
    expect(page.locator(".notice-title")).to_have_text(["NO WORKER", "FORECAST QUEUED"])
    worker_alive(redis)
    expect(page.locator(".notice-title")).to_have_text(["FORECAST QUEUED"])
    forecast_stored(stores, window, forecast_id=forecast_id)
    drawn(page)
    expect(page.locator("h1")).to_have_text("BTCUSDT")
    expect(page.locator("#update-time")).to_contain_text("just now")


def test_the_page_says_when_the_server_is_away_and_goes_on_when_it_is_back(
    page: Page, complaints: Complaints, redis_url: str, redis: Redis, stores: Stores, tmp_path: Path
) -> None:
    complaints.expected = ["ERR_CONNECTION_REFUSED", "ERR_CONNECTION_RESET"]  # a reset where it was at an answer
    window = ingested(stores)
    forecast_stored(stores, window)
    port = str(free_port())
    with web_server(redis_url, tmp_path, KRONOS_WEB__PORT=port) as (address, running):
        page.goto(address)
        drawn(page)
        page.evaluate("document.querySelector('main').dataset.pollS = '0.2'")
        running.end(signal.SIGTERM)
        page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
        expect(page.locator("#away")).to_contain_text("The server does not answer")
        expect(page.locator("#upside-prob")).to_be_visible()
    worker_alive(redis)
    with web_server(redis_url, tmp_path, KRONOS_WEB__PORT=port):
        expect(page.locator("#away")).to_be_hidden()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_on_a_phone_everything_fits_the_width_and_can_be_read(
    page: Page, web_address: str, stores: Stores, scheme: Any
) -> None:
    forecast_stored(stores, ingested(stores, origin="simulated"), source="bundled")
    page.set_viewport_size(PHONE)  # type: ignore[arg-type]
    page.emulate_media(color_scheme=scheme)
    page.goto(web_address)
    drawn(page)
    page.locator("#steps summary").click()
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    too_small = page.evaluate(
        """[...document.querySelectorAll("main p, main dd, main dt, main td, main h2, main li")]
           .filter((one) => one.offsetParent && parseFloat(getComputedStyle(one).fontSize) < 13).length"""
    )
    assert too_small == 0
    button = page.locator("#theme").bounding_box()
    assert button is not None
    assert button["height"] >= 40


def luminance(page: Page) -> float:
    """Of the page's background, from 0 (black) to 255."""
    colours = page.evaluate("getComputedStyle(document.body).backgroundColor.match(/[0-9.]+/g).slice(0, 3).map(Number)")
    return sum(colours) / 3


def test_the_page_is_as_dark_as_the_person_prefers_and_remembers_what_they_choose_here(
    page: Page, web_address: str, stores: Stores
) -> None:
    history_colour = "document.getElementById('chart').data.find((one) => one.meta.role === 'history').line.color"
    forecast_stored(stores, ingested(stores))
    page.goto(web_address)
    drawn(page)
    assert luminance(page) > 200
    by_day = page.evaluate(history_colour)
    page.emulate_media(color_scheme="dark")
    eventually(lambda: page.evaluate(history_colour) != by_day, 10)
    assert luminance(page) < 60
    page.get_by_role("button", name="Dark").click()
    eventually(lambda: page.evaluate(history_colour) == by_day, 10)
    assert luminance(page) > 200
    page.reload()
    assert luminance(page) > 200


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_all_text_stands_out_from_what_is_behind_it(page: Page, web_address: str, stores: Stores, scheme: Any) -> None:
    forecast_stored(stores, ingested(stores, origin="simulated"), source="bundled")
    page.emulate_media(color_scheme=scheme)
    page.goto(web_address)
    drawn(page)
    contrasts = page.evaluate(Path(__file__).with_name("contrast.js").read_text())
    assert len(contrasts) > 20
    weak = [f"{one['ratio']:.2f} {one['text']}" for one in contrasts if one["ratio"] < 4.5]
    assert weak == []


def test_times_are_in_the_persons_zone_with_utc_at_hand(page: Page, web_address: str, stores: Stores) -> None:
    forecast_stored(stores, ingested(stores))
    page.goto(web_address)
    element = page.locator(".figure time").first
    utc = element.get_attribute("datetime") or ""
    assert (element.get_attribute("title") or "").endswith("UTC")
    shown = page.evaluate(
        "(at) => new Intl.DateTimeFormat(undefined, {dateStyle: 'medium', timeStyle: 'short'}).format(new Date(at))",
        utc,
    )
    expect(element).to_have_text(shown)
    expect(page.locator("#next-update")).to_have_text(re.compile(r"^(in \d.* s|due now)$"))


def test_defective_paths_uncalibrated_bands_and_no_advice_are_said_on_the_page(
    page: Page, web_address: str, stores: Stores
) -> None:
    forecast_stored(stores, ingested(stores))
    page.goto(web_address)
    seen = all_visible_text(page)
    assert "1 with negative volume" in seen
    assert "UNCALIBRATED: not checked against outcomes yet" in seen
    assert "Not investment advice" in seen


def test_where_the_klines_are_gone_the_forecast_is_drawn_alone_and_says_so(
    page: Page, web_address: str, redis: Redis, stores: Stores
) -> None:
    forecast = forecast_stored(stores, ingested(stores))
    redis.delete(f"kronos:snapshot:{forecast.request.snapshot_id}")
    page.goto(web_address)
    roles = {trace["meta"]["role"] for trace in drawn(page)}
    assert "mean" in roles
    assert "history" not in roles
    expect(page.locator("#chart-note")).to_contain_text("no longer kept")


def test_whatever_a_venue_says_is_shown_as_text(page: Page, web_address: str, stores: Stores) -> None:
    hostile = "<img src=x onerror=alert(1)>"
    window = ingested(stores, state="stale", problem=hostile)
    forecast_stored(stores, window)
    page.goto(web_address)
    expect(page.locator(".notice.stale .notice-text")).to_have_text(hostile)
    expect(page.locator("main img")).to_have_count(0)
