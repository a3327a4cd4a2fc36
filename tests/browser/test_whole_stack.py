"""From kline to dashboard: a venue over HTTP, ingest, Redis, a worker with the bundled model, and the page in a browser."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Page, expect
from redis import Redis

from shared.klines import Interval
from tests.browser.stack import EVERYTHING, Stack, stack_on
from tests.processes import eventually
from tests.venue_server import VenueServer

pytestmark = pytest.mark.timeout(240)


@pytest.fixture
def venue() -> Iterator[VenueServer]:
    with VenueServer() as server:
        yield server


@pytest.fixture
def stack(redis: Redis, redis_url: str, venue: VenueServer, tmp_path: Path) -> Iterator[Stack]:
    venue.fail("429", times=1, retry_after=1)  # a busy venue at the first call does not cost the candle
    with stack_on(redis, redis_url, venue.url, tmp_path) as running:
        running.start(*EVERYTHING)
        yield running


def test_klines_become_a_forecast_on_the_page_without_any_simulated_label(stack: Stack, page: Page) -> None:
    forecast_id = stack.first_forecast().id
    last_closed = Interval.H1.open_time(time.time_ns() // 1_000_000) - Interval.H1.ms
    told = httpx.get(f"{stack.address}/api/v1/forecasts/latest", timeout=30).json()
    record = told["forecast"]
    assert record["id"] == forecast_id
    assert record["last_open_time_ms"] in (last_closed, last_closed - Interval.H1.ms), "the open candle is not used"
    assert record["provenance"]["origin"] == "live"
    assert "SIMULATED DATA" not in told["labels"]

    page.goto(stack.address)
    expect(page.locator(".js-plotly-plot .main-svg").first).to_be_visible()
    text = page.locator("body").inner_text()
    assert "SIMULATED" not in text.upper()
    assert "Not investment advice".upper() in text.upper()
    assert f"{record['upside']['value']:.1%}".rstrip("%") in text
    assert record["provenance"]["venue"].upper() in text.upper()


def test_a_person_asks_for_a_forecast_and_takes_its_paths(stack: Stack, page: Page) -> None:
    stack.first_forecast()
    with httpx.Client(base_url=stack.address, timeout=30) as client:
        asked = client.post("/api/v1/forecasts", json={"num_samples": 40, "horizon": 12, "seed": 5})
        assert asked.status_code == 202
        where = asked.headers["Location"]
        eventually(lambda: client.get(where).json()["state"] == "finished", 60, stack.explain)
        record = client.get(where).json()["forecast"]
        rows = client.get(f"{where}/paths.csv").text.strip().splitlines()
    assert len(rows) == 1 + 40 * 12
    assert record["close"]["bands"][2]["kind"] == "quantile"
    page.goto(f"{stack.address}/forecasts/{record['id']}")
    expect(page.locator(".js-plotly-plot .main-svg").first).to_be_visible()
    assert "BUNDLED MODEL" in page.locator("body").inner_text().upper()
