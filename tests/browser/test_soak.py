"""A page that is left open: a day of news at speed, and a server that is started again. It neither grows nor goes quiet."""

from __future__ import annotations

import re
import signal
from pathlib import Path

import pytest
from playwright.sync_api import CDPSession, Page, expect
from redis import Redis

from services.web.situation import Stores
from shared.forecasts import scheduled_forecast_id
from tests.browser.conftest import Complaints
from tests.browser.test_page import drawn
from tests.builders import forecast_request
from tests.conftest import free_port
from tests.web_server import (
    HOUR_MS,
    forecast_stored,
    ingested,
    job_as_running,
    newest_closed_candle,
    web_server,
    worker_alive,
)

pytestmark = pytest.mark.timeout(240)

HOURS = 24
SETTLED = 4  # hours after which all that is made once has been made
MOST_GROWTH = 1.05  # of nodes and listeners after that: the page does not always show as many words
# Plotly remembers the size of each text that it has drawn, up to 10,000 of them, and the browser the code that it compiled:
# 30 to 40 KB an hour were seen over 40 hours, half of it later on. One page or figure that is not let go is several times that.
MOST_BYTES_AN_HOUR = 80_000


def an_hour_passes(page: Page, redis: Redis, stores: Stores, candle_ms: int, seed: int) -> None:
    """A candle closes, its forecast is enqueued, begun and made; the page shows each."""
    window = ingested(stores, last_open_time_ms=candle_ms, seed=seed)
    forecast_id = scheduled_forecast_id("BTCUSDT", window.interval, candle_ms, "live")
    stores.queue.enqueue(forecast_id, forecast_request(window.content_hash()[:16]))
    redis.lpop("rq:queue:forecasts")  # a worker takes it
    job_as_running(redis, forecast_id, 1 + seed % 20, 24)
    expect(page.locator("progress")).to_have_attribute("value", str(1 + seed % 20))
    forecast_stored(stores, window)
    expect(page.locator("#chart")).to_have_attribute("data-drawn", re.compile(f"/{forecast_id}/"))
    expect(page.locator("progress")).to_have_count(0)


def held(devtools: CDPSession) -> dict[str, float]:
    """What the page's process holds when all that is not needed has been let go."""
    devtools.send("HeapProfiler.collectGarbage")
    told = {one["name"]: one["value"] for one in devtools.send("Performance.getMetrics")["metrics"]}
    return {name: told[name] for name in ("Nodes", "JSEventListeners", "JSHeapUsedSize", "Documents")}


def test_a_day_of_news_leaves_no_more_in_the_browser_than_a_few_hours_and_a_new_server_is_found_again(
    page: Page, complaints: Complaints, redis_url: str, redis: Redis, stores: Stores, tmp_path: Path
) -> None:
    complaints.expected = ["ERR_CONNECTION_REFUSED", "ERR_INCOMPLETE_CHUNKED_ENCODING", "ERR_CONNECTION_RESET"]
    worker = worker_alive(redis)
    now = newest_closed_candle()
    forecast_stored(stores, ingested(stores, last_open_time_ms=now - HOURS * HOUR_MS))
    streams: list[str] = []
    page.on("request", lambda one: streams.append(one.url) if "/events" in one.url else None)
    port = str(free_port())
    with web_server(redis_url, tmp_path, KRONOS_WEB__PORT=port) as (address, running):
        page.goto(address)
        drawn(page)
        page.evaluate("window.notReloaded = true")
        devtools = page.context.new_cdp_session(page)
        devtools.send("Performance.enable")
        for hour in range(1, HOURS):
            worker.heartbeat()
            an_hour_passes(page, redis, stores, now - (HOURS - hour) * HOUR_MS, seed=hour)
            if hour == SETTLED:
                after_some_hours = held(devtools)
        after_the_day = held(devtools)
        for name in ("Nodes", "JSEventListeners", "Documents"):
            assert after_the_day[name] <= MOST_GROWTH * after_some_hours[name], (after_some_hours, after_the_day)
        grown = after_the_day["JSHeapUsedSize"] - after_some_hours["JSHeapUsedSize"]
        assert grown <= MOST_BYTES_AN_HOUR * (HOURS - SETTLED), (after_some_hours, after_the_day)
        assert len(streams) == 1, "one stream carried it all"
        running.end(signal.SIGTERM)
        expect(page.locator("#away")).to_be_visible()
    with web_server(redis_url, tmp_path, KRONOS_WEB__PORT=port):
        expect(page.locator("#away")).to_be_hidden(timeout=30_000)
        worker.heartbeat()
        an_hour_passes(page, redis, stores, now, seed=HOURS)  # faster than a page asks that has no stream
        expect(page.locator(".notice-title")).to_have_text(["LIVE"])
        assert page.evaluate("window.notReloaded")
