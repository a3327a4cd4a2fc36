"""Candles of one's own: held against the rules of ingested ones, forecast from, and shown as what they are."""

from __future__ import annotations

import csv
import io
import json
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from redis import Redis

from services.web.situation import Stores
from shared.forecasts import ForecastOverrides
from shared.klines import COLUMNS, Interval, KlineWindow
from tests.builders import kline_window, settings
from tests.integration.test_web_api import enqueued_request
from tests.integration.test_web_bad_input import ASK, problem
from tests.processes import eventually, service
from tests.tiny_models import write_tiny_models
from tests.web_server import ingested

CSV = {"Content-Type": "text/csv"}


def candles(window: KlineWindow) -> list[dict[str, Any]]:
    """A window as a person would send it."""
    return [
        {"open_time": int(opened), **dict(zip(COLUMNS, row.tolist(), strict=True))}
        for opened, row in zip(window.open_times_ms, window.values, strict=True)
    ]


def as_csv(rows: list[dict[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def test_klines_of_ones_own_become_a_forecast_that_says_so(
    web: httpx.Client, redis_url: str, stores: Stores, tmp_path: Path
) -> None:
    window = kline_window(100)
    asked = web.post(ASK, json={"klines": candles(window), "horizon": 5, "num_samples": 4})
    assert asked.status_code == 202, asked.text
    environment = {
        "KRONOS_REDIS__URL": redis_url,
        "KRONOS_MODEL__LOCAL_DIR": str(write_tiny_models(tmp_path / "models")),
        "KRONOS_MODEL__ALLOW_HUB": "false",
    }
    with service("worker", environment, tmp_path):
        eventually(lambda: web.get(asked.headers["Location"]).json()["state"] == "finished", 60)
    made = web.get(asked.headers["Location"]).json()
    assert made["labels"] == ["UPLOADED DATA"]
    assert (made["forecast"]["provenance"]["origin"], made["forecast"]["provenance"]["venue"]) == ("uploaded", "upload")
    assert made["forecast"]["request"]["history"] == 100
    assert made["forecast"]["open_times_ms"][0] == window.last_close_time_ms
    page = web.get(f"/forecasts/{made['id']}").text
    assert "UPLOADED DATA" in page
    assert "no venue vouches for them" in page
    kept = stores.klines.load(made["forecast"]["request"]["snapshot_id"])
    np.testing.assert_array_equal(kept.values, window.values)


def test_csv_and_json_of_the_same_candles_ask_for_the_same(web: httpx.Client, redis: Redis, stores: Stores) -> None:
    rows = candles(kline_window(100))
    first = web.post(ASK, json={"klines": rows, "horizon": 5, "temperature": 1.0, "model": "Kronos-mini"})
    again = web.post(f"{ASK}?horizon=5&temperature=1&model=Kronos-mini", content=as_csv(rows), headers=CSV)
    assert (again.status_code, again.json()["id"]) == (200, first.json()["id"])
    request = enqueued_request(redis, first.json()["id"])
    assert (request.symbol, request.interval, request.history, request.horizon) == ("UPLOADED", Interval.H1, 100, 5)
    assert stores.klines.all_statuses() == []  # nothing of this is a series that anybody keeps up


@pytest.mark.parametrize(
    "written",
    [
        lambda at: at.isoformat().replace("+00:00", "Z"),
        lambda at: at.isoformat(" "),  # as pandas writes them
        lambda at: at.astimezone(timezone(timedelta(hours=5, minutes=30))).isoformat(),
    ],
)
def test_times_may_be_iso_8601_with_any_offset_and_mean_the_same_candles(
    web: httpx.Client, written: Callable[[datetime], str]
) -> None:
    rows = candles(kline_window(100))
    first = web.post(ASK, json={"klines": rows, "horizon": 5}).json()
    in_words = [{**row, "open_time": written(datetime.fromtimestamp(row["open_time"] / 1000, UTC))} for row in rows]
    as_json = web.post(ASK, json={"klines": in_words, "horizon": 5})
    text = web.post(f"{ASK}?horizon=5", content=as_csv(in_words), headers=CSV)
    for again in (as_json, text):
        assert (again.status_code, again.json().get("id")) == (200, first["id"]), again.text


@pytest.mark.parametrize(
    ("moment", "why"),
    [
        ("2025-01-01T07:00:00", "names no offset from UTC"),
        ("2025-01-01", "names no offset from UTC"),
        ("2025-01-01T07:00:00.0001Z", "is no whole number of milliseconds"),
        ("at seven", "is no moment that can be read"),
    ],
)
def test_a_time_that_may_be_any_zones_is_refused_in_one_sentence(web: httpx.Client, moment: str, why: str) -> None:
    rows = candles(kline_window(100))
    rows[7]["open_time"] = moment
    for refused in (
        problem(web.post(ASK, json={"klines": rows}), 422),
        problem(web.post(ASK, content=as_csv(rows), headers=CSV), 422),
    ):
        assert refused["errors"][0]["field"] == "klines"
        assert refused["detail"] == (
            f"Row 7 of klines has '{moment}' as its open_time, which {why}, but allowed are UTC milliseconds, or ISO 8601 "
            f"with its offset from UTC, as in 2025-01-01T00:00:00Z or 2025-01-01 01:00+01:00."
        )


def test_what_may_stand_in_the_address_beside_csv_is_described_and_nothing_is_read_there_beside_json(
    web: httpx.Client,
) -> None:
    asking = web.get("/openapi/openapi.json").json()["paths"]["/api/v1/forecasts"]["post"]
    described = {one["name"] for one in asking["parameters"] if one["in"] == "query"}
    assert described == set(ForecastOverrides.model_fields) - {"symbol", "symbols", "klines"}
    page = web.get("/docs").text
    assert "Body as <code>text/csv</code>: candles, oldest first" in page
    asked = web.post(f"{ASK}?horizon=5&top_k=3&seed=7", content=as_csv(candles(kline_window(100))), headers=CSV)
    assert asked.status_code == 202
    for body in ({}, {"json": {}}, {"json": {"horizon": 4}}):
        refused = problem(web.post(f"{ASK}?horizon=5", **body), 422)  # type: ignore[arg-type]
        assert refused["errors"][0]["field"] == "horizon"
        assert "put it into the body" in refused["detail"]


def test_uploads_neither_hide_nor_push_out_what_a_venue_has_told(
    web: httpx.Client, redis: Redis, stores: Stores
) -> None:
    ingested(stores)
    web.post(ASK, json={"klines": candles(kline_window(100))})
    assert redis.zcard("kronos:snapshots:BTCUSDT:1h") == 1
    assert [one["symbol"] for one in web.get("/api/v1/series").json()["series"]] == ["BTCUSDT"]


def test_without_an_amount_it_is_volume_times_the_mean_price(web: httpx.Client, redis: Redis, stores: Stores) -> None:
    rows = candles(kline_window(64, interval=Interval.M15))
    for row in rows:
        del row["amount"]
    asked = web.post(ASK, content="\ufeff" + as_csv(rows), headers=CSV).json()
    request = enqueued_request(redis, asked["id"])
    window = stores.klines.load(request.snapshot_id)
    assert window.interval == Interval.M15
    np.testing.assert_allclose(window.values[:, 5], window.values[:, 4] * window.values[:, :4].mean(axis=1))


@pytest.mark.parametrize(
    ("column", "value", "words"),
    [
        ("close", "much", ["Row 7 of klines has 'much' as its close", "a number"]),
        ("close", None, ["Row 7 of klines has nothing as its close", "a number"]),
        ("open_time", "2025-01-01", ["Row 7", "'2025-01-01' as its open_time", "UTC milliseconds"]),
        ("open_time", 10**20, ["Row 7", "open_time", "UTC milliseconds"]),
        ("closing", 1.0, ["Row 7", "'closing'", "open_time, open, high, low, close, volume"]),
        ("high", 1.0, ["Row 7", "inconsistent", "high 1"]),
        ("low", -1.0, ["Row 7", "inconsistent", "low -1"]),
        ("volume", -3, ["Row 7", "inconsistent", "volume -3"]),
        ("volume", 1e999, ["Row 7", "non_finite", "not a finite number"]),
    ],
)
def test_a_row_that_breaks_a_rule_is_named(
    web: httpx.Client, redis: Redis, column: str, value: object, words: list[str]
) -> None:
    rows = candles(kline_window(100))
    rows[7][column] = value
    body = json.dumps({"klines": rows}).replace("Infinity", "1e999")
    refused = problem(web.post(ASK, content=body, headers={"Content-Type": "application/json"}), 422)
    assert refused["errors"][0]["field"] == "klines"
    for word in words:
        assert word in refused["detail"]
    assert not redis.keys("rq:job:*")
    assert not redis.keys("kronos:snapshot*")


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda rows: rows.pop(7), ["Row 7", "gap", "1 candles are missing"]),
        (lambda rows: rows.insert(7, rows[7]), ["Row 8", "duplicate", "is there twice"]),
        (lambda rows: rows.insert(7, rows.pop(40)), ["Row 7", "gap"]),
        (lambda rows: rows.reverse(), ["minutes apart"]),
        (lambda rows: rows[7].pop("low"), ["Row 7 of klines lacks low"]),
        (lambda rows: rows.__setitem__(7, 5), ["Row 7 of klines is 5", "an object with open_time"]),
        (
            lambda rows: rows.__delitem__(slice(63, None)),
            ["63 candles", "64 to 1000 (limits.max_history)", "send more"],
        ),
        (lambda rows: rows.clear(), ["0 candles", "64 to 1000"]),
        (lambda rows: rows.extend(rows * 11), ["1200 candles", "the newest ones"]),
        (
            lambda rows: [row.update(open_time=row["open_time"] // 1000) for row in rows],
            ["0.06 minutes", "milliseconds"],
        ),
        (lambda rows: [row.update(open_time=row["open_time"] + 1) for row in rows], ["Row 0", "misaligned"]),
        (lambda rows: [row.update(open_time=5) for row in rows], ["0 minutes apart"]),
    ],
)
def test_rows_out_of_order_and_too_few_or_many_are_named(
    web: httpx.Client, redis: Redis, spoil: Any, words: list[str]
) -> None:
    rows = candles(kline_window(100))
    spoil(rows)
    refused = problem(web.post(ASK, json={"klines": rows}), 422)
    assert refused["errors"][0]["field"] == "klines"
    for word in words:
        assert word in refused["detail"], refused["detail"]
    assert not redis.keys("rq:job:*")


def test_a_candle_that_is_still_open_is_refused(web: httpx.Client) -> None:
    start_ms = Interval.H1.open_time(time.time_ns() // 1_000_000) - 99 * Interval.H1.ms
    rows = candles(kline_window(100, start_ms=start_ms))
    refused = problem(web.post(ASK, json={"klines": rows}), 422)
    assert "Row 99" in refused["detail"]
    assert "has not closed yet" in refused["detail"]
    assert web.post(ASK, json={"klines": rows[:-1]}).status_code == 202


@pytest.mark.parametrize(
    ("beside", "field", "words"),
    [
        ({"symbol": "BTCUSDT"}, "klines", "beside symbol"),
        ({"symbols": ["BTCUSDT", "ETHUSDT"]}, "klines", "beside symbols"),
        ({"interval": "4h"}, "interval", "60 minutes apart, but allowed is 4h (interval)"),
        ({"history": 101}, "history", "only 100 candles"),
        ({"horizon": 0}, "horizon", "1 to 448"),
    ],
)
def test_what_stands_beside_klines_must_fit_them(
    web: httpx.Client, beside: dict[str, object], field: str, words: str
) -> None:
    refused = problem(web.post(ASK, json={"klines": candles(kline_window(100)), **beside}), 422)
    assert refused["errors"][0]["field"] == field
    assert words in refused["detail"]


@pytest.mark.parametrize(
    ("query", "body", "status", "words"),
    [
        ("", "a,b\n1,2\n", 422, "lacks open_time, open, high, low, close, volume"),
        ("", "", 422, "lacks open_time"),
        ("", "open_time,open,high,low,close,volume\n1,2\n", 422, "Row 0 of klines has nothing as its high"),
        ("?horizon=soon", None, 422, "horizon is 'soon'"),
        ("?horizon=NaN", None, 422, "horizon is 'NaN'"),
        ("?horizon=5&horizon=6", None, 422, "horizon is given 2 times"),
        ("?horizont=5", None, 422, "not something to ask for"),
        ("?symbol=BTCUSDT", None, 422, "beside symbol"),
        ("?klines=5", None, 422, "klines is given as a parameter"),
        ("", b"\xff\xfe", 400, "not text in UTF-8"),
    ],
)
def test_csv_that_is_none_is_refused_in_words(
    web: httpx.Client, query: str, body: str | bytes | None, status: int, words: str
) -> None:
    content = as_csv(candles(kline_window(100))) if body is None else body
    assert words in problem(web.post(f"{ASK}{query}", content=content, headers=CSV), status)["detail"]


def test_as_many_candles_as_a_snapshot_may_hold_fit_into_a_request(web: httpx.Client) -> None:
    rows = candles(kline_window(settings().limits.max_history))
    assert web.post(ASK, json={"klines": rows}).status_code == 202
