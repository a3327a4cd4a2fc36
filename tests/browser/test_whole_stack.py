"""From kline to dashboard: a venue over HTTP, ingest, Redis, a worker with the bundled model, and the page in a browser."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Page, expect
from redis import Redis

from shared.forecast_store import ForecastStore
from shared.klines import Interval
from tests.processes import Service, eventually, service
from tests.venue_server import VenueServer
from tests.web_server import listening_address

pytestmark = pytest.mark.timeout(240)


class Stack:
    """All services as processes of their own; their Redis and their venue are real servers too."""

    def __init__(self, redis: Redis, redis_url: str, venue: VenueServer, folder: Path) -> None:
        self.redis, self.venue, self.folder = redis, venue, folder
        self.forecasts = ForecastStore(redis, keep=100)
        self.environment = {
            "KRONOS_REDIS__URL": redis_url,
            "KRONOS_VENUES__BINANCE_URLS": venue.url,
            "KRONOS_VENUES__OKX_URL": venue.url,
            "KRONOS_VENUES__BYBIT_URL": venue.url,
            "KRONOS_MODEL__MODEL_NAME": "Kronos-nano",
            "KRONOS_WORKER__THREADS": "1",
            "KRONOS_WEB__PORT": "0",
        }
        self._running = ExitStack()
        self._logs = {name: self._start(name) for name in ("ingest", "worker", "web")}
        self._logs["web"].wait_for_log("listening")
        self.address = listening_address(self._logs["web"])

    def _start(self, name: str) -> Service:
        return self._running.enter_context(service(name, self.environment, self.folder))

    def first_forecast_id(self) -> str:
        eventually(lambda: self.forecasts.latest_scheduled("BTCUSDT", Interval.H1, "live"), 90, self.explain)
        forecast = self.forecasts.latest_scheduled("BTCUSDT", Interval.H1, "live")
        assert forecast is not None
        return forecast.id

    def explain(self) -> str:
        return "\n".join(running.log()[-1000:] for running in self._logs.values())

    def end(self) -> None:
        for running in self._logs.values():
            running.end()
        self._running.close()


@pytest.fixture
def venue() -> Iterator[VenueServer]:
    with VenueServer() as server:
        yield server


@pytest.fixture
def stack(redis: Redis, redis_url: str, venue: VenueServer, tmp_path: Path) -> Iterator[Stack]:
    venue.fail("429", times=1, retry_after=1)  # a busy venue at the first call does not cost the candle
    running = Stack(redis, redis_url, venue, tmp_path)
    yield running
    running.end()


def test_klines_become_a_forecast_on_the_page_without_any_simulated_label(stack: Stack, page: Page) -> None:
    forecast_id = stack.first_forecast_id()
    last_closed = Interval.H1.open_time(time.time_ns() // 1_000_000) - Interval.H1.ms
    told = httpx.get(f"{stack.address}/api/v1/forecasts/latest", timeout=10).json()
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
    stack.first_forecast_id()
    with httpx.Client(base_url=stack.address, timeout=10) as client:
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
