"""What has followed a forecast, as the API and the page tell it, on snapshots as ingest stores them."""

from __future__ import annotations

import re
from html import unescape
from typing import Any

import httpx
import numpy as np
import pytest
from redis import Redis

from services.web.situation import Stores
from shared.forecasts import Forecast
from shared.kline_store import KlineStore
from shared.klines import CLOSE
from tests.builders import finished_forecast, forecast_request, kline_window
from tests.past_forecasts import Market


def outcome_of(web: httpx.Client, forecast: Forecast) -> dict[str, Any]:
    answer = web.get(f"/api/v1/forecasts/{forecast.id}/outcome")
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def page_of(web: httpx.Client, forecast: Forecast, language: str = "en") -> str:
    answer = web.get(f"/forecasts/{forecast.id}", params={"lang": language}, headers={"Accept": "text/html"})
    assert answer.status_code == 200, answer.text
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", answer.text)).split())


def roles(web: httpx.Client, forecast: Forecast) -> set[str]:
    figure = web.get(f"/api/v1/forecasts/{forecast.id}/chart.json").json()
    return {trace["meta"]["role"] for trace in figure["data"]}


def test_the_candles_that_followed_are_told_with_how_they_lie_in_the_bands(web: httpx.Client, stores: Stores) -> None:
    market = Market(stores)
    forecast = market.forecast(7)
    newest = market.ingest(0)
    told = outcome_of(web, forecast)
    assert (told["closed"], told["horizon"], told["missing_because"]) == (7, 24, None)
    assert (told["steps"], told["open_times_ms"]) == (list(range(1, 8)), forecast.open_times_ms[:7])
    np.testing.assert_array_equal(np.array(told["candles"]), newest.values[-7:])
    closes = newest.values[-7:, CLOSE]
    compared = told["comparison"]
    for band, count in zip(forecast.close.bands, compared["bands"], strict=True):
        within = (np.array(band.lower[:7]) <= closes) & (closes <= np.array(band.upper[:7]))
        assert count == {"level": band.level, "kind": band.kind, "inside": int(within.sum()), "of": 7}
    assert compared["change"] == pytest.approx(closes[-1] / forecast.last_close - 1)
    assert compared["median_error"] == pytest.approx((forecast.close.median[6] - closes[-1]) / forecast.last_close)
    assert (compared["step"], compared["ended_above"], compared["upside"]) == (7, None, forecast.upside.value)
    page = page_of(web, forecast)
    assert "7 of 24 candles have closed since." in page
    assert "PAST FORECAST" in page
    assert "One forecast, not a track record." in page
    assert f"{compared['bands'][1]['inside']} of 7 closes inside" in page
    assert "此后 24 根 K 线中已有 7 根收盘。" in page_of(web, forecast, "zh")


def test_a_forecast_that_is_over_says_whether_the_price_ended_above(web: httpx.Client, stores: Stores) -> None:
    market = Market(stores)
    forecast = market.forecast(30)
    last = market.ingest(0).values[-7, CLOSE]
    told = outcome_of(web, forecast)
    assert (told["closed"], len(told["candles"])) == (24, 24)
    assert told["comparison"]["close"] == last
    assert told["comparison"]["ended_above"] is bool(last > forecast.last_close)
    words = "above the last price" if last > forecast.last_close else "not above the last price"
    assert f"% {words}; the upside probability was 46.7" in page_of(web, forecast)


def test_a_forecast_of_which_no_candle_has_closed_says_0(web: httpx.Client, stores: Stores) -> None:
    forecast = Market(stores).forecast(0)
    told = outcome_of(web, forecast)
    assert (told["closed"], told["candles"], told["comparison"], told["missing_because"]) == (0, [], None, None)
    page = page_of(web, forecast)
    assert "0 of 24 candles have closed since." in page
    assert "What then happened" not in page
    assert "PAST FORECAST" not in page
    assert "outcome" not in roles(web, forecast)


def test_what_has_not_been_fetched_is_said(web: httpx.Client, stores: Stores) -> None:
    market = Market(stores)
    forecast = market.forecast(7)
    market.ingest(3)  # and then ingest was ended
    told = outcome_of(web, forecast)
    assert (told["closed"], told["steps"]) == (7, [1, 2, 3, 4])
    assert told["missing_because"] == "3 of the 7 closed candles have not been fetched."
    assert told["missing_because"] in page_of(web, forecast)


def test_what_is_no_longer_kept_is_said(web: httpx.Client, redis: Redis, stores: Stores) -> None:
    market = Market(stores)
    forecast = market.forecast(30)
    market.ingest(0, candles=13)
    KlineStore(redis, keep=1).save(market.window(0, candles=13))
    told = outcome_of(web, forecast)
    assert told["steps"] == list(range(18, 25))
    assert told["missing_because"] == (
        "Only 7 of the 24 closed candles are still kept; the chart leaves gaps for the others."
    )
    figure = web.get(f"/api/v1/forecasts/{forecast.id}/chart.json").json()
    [line] = [trace for trace in figure["data"] if trace["meta"]["role"] == "outcome"]
    assert line["y"][1:18] == [None] * 17
    assert None not in line["y"][18:]
    market.ingest(0, candles=4)
    KlineStore(redis, keep=1).save(market.window(0, candles=4))
    told = outcome_of(web, forecast)
    assert (told["closed"], told["candles"]) == (24, [])
    assert told["missing_because"] == (
        "None of the 24 closed candles is still kept, so the chart cannot show what happened."
    )


def test_live_and_simulated_candles_and_those_of_two_venues_are_never_mixed(web: httpx.Client, stores: Stores) -> None:
    simulated = Market(stores, origin="simulated", venue="simulated").forecast(7)
    live = Market(stores).forecast(7)
    Market(stores, venue="okx").ingest(0)
    for forecast, venue in ((simulated, "Simulated"), (live, "Binance")):
        told = outcome_of(web, forecast)
        assert (told["closed"], told["candles"], told["comparison"]) == (7, [], None)
        assert told["missing_because"] == (
            f"This forecast was made on candles from {venue}, but the series comes from Okx by now. Candles of different "
            f"origin are never mixed, so 7 of 7 are not shown."
        )
        assert "outcome" not in roles(web, forecast)
    assert outcome_of(web, simulated)["labels"] == ["SIMULATED DATA"]


def test_a_recording_goes_by_its_own_clock(web: httpx.Client, stores: Stores) -> None:
    market = Market(stores, origin="recorded", venue="recorded")
    forecast = market.forecast(200)
    assert outcome_of(web, forecast)["closed"] == 0
    market.ingest(195)
    told = outcome_of(web, forecast)
    assert (told["closed"], len(told["candles"])) == (5, 5)


def test_nobody_knows_what_followed_uploaded_candles(web: httpx.Client, stores: Stores) -> None:
    window = kline_window(100, symbol="UPLOADED", venue="upload", origin="uploaded")
    stores.klines.save(kline_window(124, symbol="UPLOADED", venue="upload", origin="uploaded"))  # somebody else's
    request = forecast_request(stores.klines.save(window), scheduled=False, symbol="UPLOADED")
    forecast, paths = finished_forecast("adhoc-1", window, request)
    stores.forecasts.save(forecast, paths)
    told = outcome_of(web, forecast)
    assert (told["closed"], told["candles"]) == (0, [])
    assert "nobody here knows what followed" in told["missing_because"]
    page = page_of(web, forecast)
    assert "nobody here knows what followed" in page
    assert "candles have closed since" not in page


def test_the_forecasts_before_and_after_are_named_and_lead_there_without_a_script(
    web: httpx.Client, stores: Stores
) -> None:
    market = Market(stores)
    made = [market.forecast(hours) for hours in (3, 2, 1)]
    market.forecast(2, forecast_id="adhoc-1")
    assert [(one["previous"], one["next"]) for one in (outcome_of(web, forecast) for forecast in made)] == [
        (None, made[1].id),
        (made[0].id, made[2].id),
        (made[1].id, None),
    ]
    page = web.get(f"/forecasts/{made[1].id}", headers={"Accept": "text/html"}).text
    assert f'href="/forecasts/{made[0].id}" rel="prev"' in page
    assert f'href="/forecasts/{made[2].id}" rel="next"' in page
    assert 'href="/?symbol=BTCUSDT&amp;interval=1h"' in page
    front = web.get("/", headers={"Accept": "text/html"}).text
    assert f'href="/forecasts/{made[1].id}" rel="prev"' in front
    assert 'rel="next"' not in front


def test_one_that_is_not_there_has_no_outcome(web: httpx.Client, stores: Stores) -> None:
    Market(stores).ingest(0)
    assert web.get("/api/v1/forecasts/nobody/outcome").status_code == 404
    asked = web.post("/api/v1/forecasts").json()["id"]
    refused = web.get(f"/api/v1/forecasts/{asked}/outcome")
    assert refused.status_code == 404
    assert "is queued" in refused.json()["detail"]


def test_the_chart_and_the_page_change_when_another_candle_has_closed(web: httpx.Client, stores: Stores) -> None:
    market = Market(stores)
    forecast = market.forecast(7)
    market.ingest(1)
    addresses = (f"/api/v1/forecasts/{forecast.id}/chart.json", f"/forecasts/{forecast.id}")
    tags = {address: web.get(address).headers["ETag"] for address in addresses}
    for address, tag in tags.items():
        assert web.get(address, headers={"If-None-Match": tag}).status_code == 304
    market.ingest(0)
    for address, tag in tags.items():
        assert web.get(address, headers={"If-None-Match": tag}).status_code == 200
