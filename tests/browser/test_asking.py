"""A person asks for a forecast, follows it, cancels one, and goes from series to series."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Page, expect
from redis import Redis
from rq.job import Job
from rq.serializers import JSONSerializer

from services.web.situation import Stores
from shared.forecasts import ForecastRequest
from tests.browser.conftest import Complaints
from tests.browser.test_page import drawn
from tests.builders import settings
from tests.processes import service
from tests.venue_server import VenueServer
from tests.web_server import forecast_stored, ingest_alive, ingested, job_as_running, web_server, worker_alive


def request_in_queue(redis: Redis, forecast_id: str) -> ForecastRequest:
    return ForecastRequest.model_validate(Job.fetch(forecast_id, connection=redis, serializer=JSONSerializer).args[1])


def open_form(page: Page, address: str) -> None:
    page.goto(address)
    page.get_by_text("New forecast").click()


def test_a_forecast_is_asked_for_followed_and_landed_on(
    page: Page, web_address: str, redis: Redis, stores: Stores
) -> None:
    window = ingested(stores)
    forecast_stored(stores, window)
    worker_alive(redis)
    open_form(page, web_address)
    for label, value in {"Horizon, candles": "12", "Paths": "40", "Temperature": "1", "top-p": "0.8"}.items():
        page.get_by_label(label, exact=True).fill(value)
    page.get_by_label("Seed", exact=True).fill("9223372036854775806")  # beyond what JavaScript counts exactly
    page.locator("[name=model]").select_option("Kronos-nano")
    page.get_by_role("button", name="Ask for it").click()
    page.wait_for_url("**/forecasts/adhoc-*")
    forecast_id = page.url.rsplit("/", 1)[1]
    asked = request_in_queue(redis, forecast_id)
    assert (asked.symbol, asked.horizon, asked.num_samples, asked.seed) == ("BTCUSDT", 12, 40, 9223372036854775806)
    assert (asked.temperature, asked.top_p, asked.model) == (1.0, 0.8, "Kronos-nano")
    expect(page.locator(".notice-title")).to_have_text("FORECAST QUEUED")
    expect(page.locator(".notice-text")).to_contain_text("0 before it in the queue")
    job_as_running(redis, forecast_id, 5, 12)
    expect(page.locator("progress")).to_have_attribute("value", "5")
    forecast_stored(stores, window, forecast_id=forecast_id)
    drawn(page)
    expect(page.locator("h1")).to_have_text("BTCUSDT")


def test_what_the_server_does_not_allow_is_said_beside_the_form(
    page: Page, complaints: Complaints, web_address: str, redis: Redis, stores: Stores
) -> None:
    complaints.expected = ["422"]
    forecast_stored(stores, ingested(stores))
    open_form(page, web_address)
    page.get_by_label("Horizon, candles").fill("5000")
    page.get_by_role("button", name="Ask for it").click()
    expect(page.locator("#ask-problem")).to_contain_text("horizon is 5000, but allowed is a whole number")
    expect(page.get_by_label("Horizon, candles")).to_be_focused()
    expect(page.get_by_label("Horizon, candles")).to_have_attribute("aria-invalid", "true")
    assert stores.queue.waiting() == 0


def test_a_write_token_is_asked_for_and_kept_for_the_tab(
    page: Page, complaints: Complaints, redis_url: str, stores: Stores, tmp_path: Path
) -> None:
    complaints.expected = ["401"]
    forecast_stored(stores, ingested(stores))
    with web_server(redis_url, tmp_path, KRONOS_WEB__WRITE_TOKEN="open sesame, please") as (address, _):  # noqa: S106
        open_form(page, address)
        page.get_by_label("Write token").fill("wrong")
        page.get_by_role("button", name="Ask for it").click()
        expect(page.locator("#ask-problem")).to_contain_text("web.write_token")
        expect(page.get_by_label("Write token")).to_be_focused()
        page.get_by_label("Write token").fill("open sesame, please")
        page.get_by_role("button", name="Ask for it").click()
        page.wait_for_url("**/forecasts/adhoc-*")
        open_form(page, address)
        expect(page.get_by_label("Write token")).to_have_value("open sesame, please")
        assert page.evaluate("localStorage.getItem('write-token')") is None
        page.goto("about:blank")  # before the server ends


def test_a_waiting_forecast_can_be_cancelled_where_the_server_can(
    page: Page, complaints: Complaints, web_address: str, redis: Redis, stores: Stores
) -> None:
    complaints.expected = ["405"]
    forecast_stored(stores, ingested(stores))
    open_form(page, web_address)
    page.get_by_role("button", name="Ask for it").click()
    page.wait_for_url("**/forecasts/adhoc-*")
    with page.expect_response(lambda answer: answer.request.method == "DELETE") as answered:
        page.get_by_role("button", name="Cancel this forecast").click()
    assert answered.value.status in {200, 405}
    expect(page.get_by_role("button", name="Cancel this forecast")).to_be_hidden()
    assert stores.queue.waiting() == (0 if answered.value.status == 200 else 1)


def test_a_person_goes_from_series_to_series(page: Page, web_address: str, stores: Stores) -> None:
    forecast_stored(stores, ingested(stores))
    other = forecast_stored(stores, ingested(stores, symbol="ETHUSDT", seed=2))
    page.goto(web_address)
    drawn(page)
    expect(page.get_by_role("link", name="BTCUSDT 1h")).to_have_attribute("aria-current", "page")
    page.get_by_role("link", name="ETHUSDT 1h").click()
    expect(page.locator("h1")).to_have_text("ETHUSDT")
    drawn(page)
    assert float(page.locator("#last-price").get_attribute("value") or "nan") == pytest.approx(other.last_close)
    assert page.url.endswith("/?symbol=ETHUSDT&interval=1h")
    page.get_by_role("link", name="中文").click()
    expect(page.locator("h1")).to_have_text("ETHUSDT")


def test_an_impossible_series_is_refused_in_words(page: Page, complaints: Complaints, web_address: str) -> None:
    complaints.expected = ["404"]
    page.goto(f"{web_address}/?symbol=BTCUSDT&interval=7h")
    expect(page.locator("main")).to_contain_text("interval is '7h', but allowed is one of")


def test_news_come_by_one_stream_without_the_page_asking_all_the_time(
    page: Page, web_address: str, redis: Redis, stores: Stores
) -> None:
    window = ingested(stores)
    forecast_stored(stores, window)
    streams, questions = [], []
    page.on("request", lambda one: streams.append(one.url) if "/events" in one.url else None)
    page.on("request", lambda one: questions.append(one.url) if one.url == f"{web_address}/" else None)
    page.goto(f"{web_address}/")
    drawn(page)
    page.wait_for_timeout(2500)
    quiet = len(questions)
    page.wait_for_timeout(2500)
    assert len(questions) == quiet
    worker_alive(redis)  # known to the page within a second or two, though it would ask in a minute only
    expect(page.locator(".notice-title")).to_have_text(["LIVE"])
    assert streams == [f"{web_address}/api/v1/events?symbol=BTCUSDT&interval=1h"]


def test_where_no_stream_can_be_had_the_page_asks_by_itself(
    page: Page, complaints: Complaints, web_address: str, redis: Redis, stores: Stores
) -> None:
    complaints.expected = ["503"]
    page.route("**/events**", lambda route: route.fulfill(status=503, body="no"))
    forecast_stored(stores, ingested(stores))
    page.goto(f"{web_address}/")
    drawn(page)
    page.evaluate("document.querySelector('main').dataset.pollS = '0.5'")
    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    worker_alive(redis)
    expect(page.locator(".notice-title")).to_have_text(["LIVE"])


def test_any_symbol_of_a_venue_is_asked_for_waits_for_its_klines_and_says_that_nothing_follows(
    page: Page, web_address: str, redis: Redis, redis_url: str, stores: Stores, tmp_path: Path
) -> None:
    forecast_stored(stores, ingested(stores))
    ingest_alive(redis)
    worker_alive(redis)
    open_form(page, web_address)
    assert page.locator("#ask-symbols option").evaluate_all("all => all.map(one => one.value)") == ["BTCUSDT"]
    page.get_by_label("Symbol", exact=True).fill("solusdt")
    page.get_by_label("Horizon, candles").fill("4")
    page.locator("[name=model]").select_option("Kronos-nano")
    page.get_by_role("button", name="Ask for it").click()
    page.wait_for_url("**/forecasts/adhoc-*")
    expect(page.locator(".notice-title")).to_have_text("FETCHING KLINES")
    expect(page.locator(".notice-text")).to_contain_text("waits for an ingest")
    expect(page.get_by_text("waiting for klines")).to_be_visible()
    expect(page.get_by_role("button", name="Cancel this forecast")).to_be_visible()
    with VenueServer(real=False) as venue:
        environment = {
            "KRONOS_REDIS__URL": redis_url,
            "KRONOS_DATA__VENUES": "binance",
            "KRONOS_VENUES__BINANCE_URLS": venue.url,
            "KRONOS_MODEL__MODEL_NAME": "Kronos-nano",
            "KRONOS_WORKER__THREADS": "1",
        }
        with service("ingest", environment, tmp_path), service("worker", environment, tmp_path):
            expect(page.locator("h1")).to_have_text("SOLUSDT", timeout=60_000)
            drawn(page)
    titles = page.locator(".notice-title").all_text_contents()
    assert "FETCHED ONCE" in titles
    assert "LIVE" not in titles
    page.get_by_role("link", name="中文").click()
    expect(page.locator(".notice-title", has_text="仅抓取一次")).to_be_visible()


def test_a_symbol_that_cannot_be_had_is_said_beside_its_field(
    page: Page, complaints: Complaints, web_address: str, redis: Redis, stores: Stores
) -> None:
    complaints.expected = ["422"]
    forecast_stored(stores, ingested(stores))
    open_form(page, web_address)
    page.get_by_label("Symbol", exact=True).fill("SOLUSTD")
    page.get_by_role("button", name="Ask for it").click()
    expect(page.locator("#ask-problem")).to_contain_text("start `kronos-live ingest`")
    for venue in settings().data.venues:
        stores.queue.fetches.symbols.save(venue, {"SOLUSDT", "BTCUSDT"})
    page.get_by_role("button", name="Ask for it").click()
    expect(page.locator("#ask-problem")).to_contain_text("nearly alike are SOLUSDT")
    expect(page.get_by_label("Symbol", exact=True)).to_be_focused()
    expect(page.get_by_label("Symbol", exact=True)).to_have_attribute("aria-invalid", "true")
