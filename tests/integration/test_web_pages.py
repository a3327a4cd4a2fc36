"""What the page says in words, on forecasts that are not the usual ones; the browser tests see to the rest."""

from __future__ import annotations

import re
from html import unescape
from urllib.parse import unquote

import httpx
import pytest
from redis import Redis

from services.web.situation import Stores
from shared.errors import NotFoundError
from tests.builders import finished_forecast, forecast_request
from tests.web_server import forecast_stored, ingested

FULL = "the model's context holds no more"
SHORT = "all there are since the last gap"


def page_of(
    web: httpx.Client, stores: Stores, *, said: dict[str, object], made: dict[str, object], **wishes: object
) -> str:
    """The text of the page of a forecast of which the record says `said` and its provenance `made`."""
    window = ingested(stores)
    request = forecast_request(window.content_hash()[:16], scheduled=False, **wishes)
    forecast, paths = finished_forecast("adhoc-1", window, request)
    provenance = forecast.provenance.model_copy(update=made)
    stores.forecasts.save(forecast.model_copy(update={**said, "provenance": provenance}), paths)
    answer = web.get("/forecasts/adhoc-1", headers={"Accept": "text/html"})
    assert answer.status_code == 200, answer.text
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", answer.text)).split())


def test_one_step_has_no_volatility_to_compare_and_the_page_says_so(web: httpx.Client, stores: Stores) -> None:
    text = page_of(web, stores, said={"volatility_amplification": None, "returns_compared": 1}, made={}, horizon=1)
    assert "Volatility amplification – needs two steps" in text
    assert "Upside probability 46.7" in text


@pytest.mark.parametrize(
    ("horizon", "compared", "told"),
    [
        (6, 6, "14 of 30 paths move more than the last 6 h did;"),
        (24, 24, "14 of 30 paths move more than the last 24 h did;"),
        (48, 24, "14 of 30 paths move more in their first 24 h than the last 24 h did;"),
    ],
)
def test_the_page_says_which_returns_the_volatility_compares(
    web: httpx.Client, stores: Stores, horizon: int, compared: int, told: str
) -> None:
    assert told in page_of(web, stores, said={"returns_compared": compared}, made={}, horizon=horizon)


@pytest.mark.parametrize(
    ("made", "told"),
    [
        ({"history_used": 120}, f"120 candles of 360 asked for: {SHORT}"),
        ({"history_used": 488, "max_context": 512}, f"488 candles of 1000 asked for: {FULL}"),
        ({"history_used": 488, "max_context": 512, "overflow": "slide"}, f"488 candles of 1000 asked for: {SHORT}"),
        ({"history_used": 360}, "History used 360 candles Sampling"),
    ],
)
def test_the_page_says_why_less_history_was_used_than_asked_for(
    web: httpx.Client, stores: Stores, made: dict[str, object], told: str
) -> None:
    asked = 1000 if made["history_used"] == 488 else 360
    assert told in page_of(web, stores, said={}, made=made, history=asked)


def test_paths_that_break_reality_are_told_by_kind_and_not_once_more_as_any(web: httpx.Client, stores: Stores) -> None:
    text = page_of(web, stores, said={"defective_paths": {"negative_volume": 2, "non_finite": 0, "any": 2}}, made={})
    assert "Defective paths 2 with negative volume of 30, kept as drawn" in text


@pytest.mark.parametrize("path", ["/", "/api/v1/forecasts", "/api/v1/forecasts/latest", "/readyz"])
def test_a_record_of_another_version_is_as_if_it_were_not_there(
    web: httpx.Client, redis: Redis, stores: Stores, path: str
) -> None:
    forecast = forecast_stored(stores, ingested(stores))
    redis.hset(f"kronos:forecast:{forecast.id}", "record", forecast.model_dump_json(exclude={"upside"}))
    assert web.get(path, headers={"Accept": "text/html"}).status_code in {200, 404, 503}
    one = web.get(f"/forecasts/{forecast.id}", headers={"Accept": "text/html"})
    assert one.status_code == 404
    assert "Traceback" not in one.text


def test_a_series_of_another_version_does_not_break_the_page(web: httpx.Client, redis: Redis, stores: Stores) -> None:
    ingested(stores)
    redis.hset("kronos:series", "BTCUSDT:1h", '{"symbol": "BTCUSDT", "interval": "1h"}')
    assert web.get("/", headers={"Accept": "text/html"}).status_code == 200
    assert web.get("/api/v1/series").json() == {"series": []}


def test_the_paths_of_a_forecast_are_loaded_for_the_first_look_at_it_alone(
    web: httpx.Client, redis: Redis, stores: Stores
) -> None:
    forecast = forecast_stored(stores, ingested(stores), forecast_id="adhoc-looked-at-twice")
    address = f"/forecasts/{forecast.id}"
    first = web.get(address, headers={"Accept": "text/html"})
    assert 'id="expected-return-error"' in first.text
    redis.hdel(f"kronos:forecast:{forecast.id}", "paths")
    again = web.get(address, headers={"Accept": "text/html"})
    assert again.status_code == 200
    assert 'id="expected-return-error"' in again.text


@pytest.mark.parametrize("name", ["%D9%A1%D9%A2", "a%0A", "a:b", "-", "a" * 81, "%F0%9F%98%80"])
def test_a_name_that_no_forecast_can_have_is_that_of_none(web: httpx.Client, stores: Stores, name: str) -> None:
    assert web.get(f"/forecasts/{name}").status_code == 404
    with pytest.raises(NotFoundError):
        stores.queue.status(unquote(name))
