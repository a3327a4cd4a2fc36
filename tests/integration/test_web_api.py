"""The API of the running web service, on stores filled as ingest and a worker fill them."""

from __future__ import annotations

import csv
import io
import json

import httpx
import numpy as np
import pytest
from jsonschema import Draft202012Validator
from redis import Redis
from rq.job import Job
from rq.serializers import JSONSerializer

from services.web.situation import Stores
from shared.forecast_queue import FORECAST_JOB
from shared.forecasts import Forecast, ForecastRequest
from shared.klines import Interval
from tests.builders import settings
from tests.web_server import HOUR_MS, forecast_stored, ingested, job_as_running, newest_closed_candle, worker_alive


def enqueued_request(redis: Redis, forecast_id: str) -> ForecastRequest:
    job = Job.fetch(forecast_id, connection=redis, serializer=JSONSerializer)
    assert job.func_name == FORECAST_JOB
    assert job.args[0] == forecast_id
    return ForecastRequest.model_validate(job.args[1])


def test_an_empty_body_asks_for_the_configured_forecast(web: httpx.Client, redis: Redis, stores: Stores) -> None:
    snapshot_id = ingested(stores).content_hash()[:16]
    answer = web.post("/api/v1/forecasts")
    assert answer.status_code == 202
    job = answer.json()
    assert answer.headers["Location"] == f"/api/v1/forecasts/{job['id']}"
    assert (job["state"], job["position"]) == ("queued", 0)
    request = enqueued_request(redis, job["id"])
    configured = settings()
    assert (request.symbol, request.horizon, request.history, request.num_samples) == ("BTCUSDT", 24, 360, 30)
    assert (request.temperature, request.top_p, request.top_k) == ("auto", "auto", 0)
    assert (request.model, request.model_is_default) == (configured.model.model_name, True)
    assert (request.snapshot_id, request.scheduled) == (snapshot_id, False)


def test_what_a_person_asks_for_reaches_the_queue_as_asked(web: httpx.Client, redis: Redis, stores: Stores) -> None:
    ingested(stores)
    wishes = {"horizon": 12, "history": 100, "num_samples": 5, "temperature": 1.0, "top_p": 1.0, "top_k": 3, "seed": 42}
    job = web.post("/api/v1/forecasts", json={**wishes, "model": "Kronos-mini", "interval": "1h"}).json()
    request = enqueued_request(redis, job["id"])
    assert {name: getattr(request, name) for name in wishes} == wishes
    assert (request.model, request.model_is_default) == ("Kronos-mini", False)


def test_two_forecasts_that_name_no_seed_get_different_ones(web: httpx.Client, redis: Redis, stores: Stores) -> None:
    ingested(stores)
    ids = [web.post("/api/v1/forecasts", json={"horizon": horizon}).json()["id"] for horizon in (3, 4)]
    assert enqueued_request(redis, ids[0]).seed != enqueued_request(redis, ids[1]).seed


def test_a_panel_becomes_a_forecast_of_each_symbol_with_an_address_of_its_own(
    web: httpx.Client, redis: Redis, stores: Stores
) -> None:
    symbols = ["ETHUSDT", "BTCUSDT", "SOLUSDT"]
    snapshots = [ingested(stores, symbol=symbol, seed=seed).content_hash()[:16] for seed, symbol in enumerate(symbols)]
    answer = web.post("/api/v1/forecasts", json={"symbols": symbols, "horizon": 5})
    assert answer.status_code == 202
    assert "Location" not in answer.headers
    asked = answer.json()["forecasts"]
    assert [(one["symbol"], one["state"], one["position"]) for one in asked] == [
        ("ETHUSDT", "queued", 0),
        ("BTCUSDT", "queued", 1),
        ("SOLUSDT", "queued", 2),
    ]
    assert [web.get(one["address"]).json()["id"] for one in asked] == [one["id"] for one in asked]
    requests = [enqueued_request(redis, one["id"]) for one in asked]
    assert [(one.symbol, one.snapshot_id, one.horizon) for one in requests] == [
        (symbol, snapshot_id, 5) for symbol, snapshot_id in zip(symbols, snapshots, strict=True)
    ]
    assert len({one.seed for one in requests}) == 3


def test_a_seed_that_is_named_is_used_for_each_of_a_panel(web: httpx.Client, redis: Redis, stores: Stores) -> None:
    for symbol in ("BTCUSDT", "ETHUSDT"):
        ingested(stores, symbol=symbol)
    asked = web.post("/api/v1/forecasts", json={"symbols": ["BTCUSDT", "ETHUSDT"], "seed": 5}).json()["forecasts"]
    assert [enqueued_request(redis, one["id"]).seed for one in asked] == [5, 5]


def test_a_forecast_can_be_followed_from_the_queue_until_it_is_there(
    web: httpx.Client, redis: Redis, stores: Stores
) -> None:
    window = ingested(stores)
    location = web.post("/api/v1/forecasts").headers["Location"]
    queued = web.get(location).json()
    assert (queued["state"], queued["forecast"], queued["progress"]) == ("queued", None, None)
    assert "is queued" in web.get(f"{location}/paths.csv").json()["detail"]
    job_as_running(redis, queued["id"], 7, 24)
    running = web.get(location).json()
    assert running["state"] == "running"
    assert running["progress"] == {"phase": "sampling", "done": 7, "total": 24}
    forecast = forecast_stored(stores, window, forecast_id=queued["id"])
    finished = web.get(location).json()
    assert (finished["state"], finished["progress"], finished["error"]) == ("finished", None, None)
    assert Forecast.model_validate(finished["forecast"]) == forecast


def test_a_failed_forecast_tells_its_reason(web: httpx.Client, redis: Redis, stores: Stores) -> None:
    ingested(stores)
    forecast_id = web.post("/api/v1/forecasts").json()["id"]
    job = Job.fetch(forecast_id, connection=redis, serializer=JSONSerializer)
    job.meta["error"] = "model.safetensors has the wrong hash."
    job.save_meta()
    job.set_status("failed")
    answer = web.get(f"/api/v1/forecasts/{forecast_id}")
    assert answer.status_code == 200
    assert (answer.json()["state"], answer.json()["error"]) == ("failed", "model.safetensors has the wrong hash.")


def test_the_latest_forecast_is_the_schedules_not_one_that_a_person_asked_for(
    web: httpx.Client, stores: Stores
) -> None:
    window = ingested(stores)
    scheduled = forecast_stored(stores, window)
    forecast_stored(stores, window, forecast_id="adhoc-1")
    latest = web.get("/api/v1/forecasts/latest").json()
    assert latest["id"] == scheduled.id
    assert latest["freshness"]["state"] == "live"
    assert latest["labels"] == []
    newest = web.get("/api/v1/forecasts", params={"symbol": "BTCUSDT", "interval": "1h"}).json()["forecasts"]
    assert [one["id"] for one in newest] == ["adhoc-1", scheduled.id]
    assert len(web.get("/api/v1/forecasts?limit=1").json()["forecasts"]) == 1


def test_simulated_klines_and_a_stand_in_model_are_labelled_in_every_answer(web: httpx.Client, stores: Stores) -> None:
    forecast = forecast_stored(stores, ingested(stores, origin="simulated"), source="bundled")
    for answer in (
        web.get("/api/v1/forecasts/latest").json(),
        web.get(f"/api/v1/forecasts/{forecast.id}").json(),
        web.get("/api/v1/forecasts").json()["forecasts"][0],
    ):
        assert answer["labels"] == ["SIMULATED DATA", "BUNDLED MODEL"]
        assert answer["forecast"]["provenance"]["model_stands_in_for"] == "Kronos-small"


def test_a_latest_forecast_that_is_overdue_is_stale_since_its_successor_was_due(
    web: httpx.Client, stores: Stores
) -> None:
    last = newest_closed_candle() - 5 * HOUR_MS
    forecast_stored(stores, ingested(stores, last_open_time_ms=last))
    freshness = web.get("/api/v1/forecasts/latest").json()["freshness"]
    assert freshness["state"] == "stale"
    due = np.datetime64(last + 2 * HOUR_MS, "ms").astype("datetime64[s]")
    assert freshness["since"] == f"{due}Z"


def test_without_a_forecast_the_answer_says_what_is_missing(web: httpx.Client, stores: Stores) -> None:
    nothing = web.get("/api/v1/forecasts/latest")
    assert nothing.status_code == 404
    assert "kronos-live ingest" in nothing.json()["detail"]
    ingested(stores)
    assert "No worker is alive" in web.get("/api/v1/forecasts/latest").json()["detail"]


def test_all_paths_come_as_csv_and_read_back_as_they_were_stored(web: httpx.Client, stores: Stores) -> None:
    forecast = forecast_stored(stores, ingested(stores))
    answer = web.get(f"/api/v1/forecasts/{forecast.id}/paths.csv")
    assert answer.headers["Content-Type"].startswith("text/csv")
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    columns = ["open", "high", "low", "close", "volume", "amount"]
    assert list(rows[0]) == ["path", "step", "open_time", *columns]
    read = np.array([[row[column] for column in columns] for row in rows], dtype=np.float32).reshape(30, 24, 6)
    np.testing.assert_array_equal(read, stores.forecasts.load_paths(forecast.id))
    assert [(row["path"], row["step"]) for row in rows[22:26]] == [("0", "23"), ("0", "24"), ("1", "1"), ("1", "2")]
    first = np.datetime64(forecast.open_times_ms[0], "ms").astype("datetime64[s]")
    assert rows[0]["open_time"] == f"{first}Z"


def test_all_paths_come_as_binary_too_in_the_shape_that_the_record_says(web: httpx.Client, stores: Stores) -> None:
    forecast = forecast_stored(stores, ingested(stores))
    answer = web.get(f"/api/v1/forecasts/{forecast.id}/paths.bin")
    assert answer.headers["Content-Type"] == "application/octet-stream"
    read = np.frombuffer(answer.content, dtype="<f4").reshape(forecast.paths.shape)
    np.testing.assert_array_equal(read, stores.forecasts.load_paths(forecast.id))
    again = web.get(f"/api/v1/forecasts/{forecast.id}/paths.bin", headers={"If-None-Match": answer.headers["ETag"]})
    assert again.status_code == 304
    assert web.get("/api/v1/forecasts/adhoc-none/paths.bin").status_code == 404


def test_the_chart_shows_the_klines_that_the_forecast_was_made_on(
    web: httpx.Client, redis: Redis, stores: Stores
) -> None:
    window = ingested(stores)
    forecast = forecast_stored(stores, window)
    figure = web.get(f"/api/v1/forecasts/{forecast.id}/chart.json").json()
    history = next(trace for trace in figure["data"] if trace["meta"]["role"] == "history")
    assert history["y"] == window.values[-120:, 3].tolist()
    redis.delete(f"kronos:snapshot:{forecast.request.snapshot_id}")
    assert web.get(f"/api/v1/forecasts/{forecast.id}/chart.json").json()["history_missing"] is True


def test_whoever_asks_again_hears_that_nothing_has_changed(web: httpx.Client, stores: Stores) -> None:
    forecast_stored(stores, ingested(stores))
    for path in ("/api/v1/forecasts/latest", "/"):
        first = web.get(path)
        again = web.get(path, headers={"If-None-Match": first.headers["ETag"]})
        assert (first.status_code, again.status_code, again.content) == (200, 304, b"")


def test_the_ingested_series_are_listed(web: httpx.Client, stores: Stores) -> None:
    ingested(stores)
    listed = web.get("/api/v1/series").json()["series"]
    assert [(one["symbol"], one["interval"], one["state"]) for one in listed] == [("BTCUSDT", "1h", "live")]


def test_a_series_of_which_ingest_no_longer_reports_is_listed_as_stale(web: httpx.Client, stores: Stores) -> None:
    ingested(stores, last_open_time_ms=newest_closed_candle() - 5 * HOUR_MS)
    [listed] = web.get("/api/v1/series").json()["series"]
    assert listed["state"] == "stale"
    assert "Ingest has not reported since" in listed["problem"]


def test_a_process_is_alive_whatever_else_is_missing(web: httpx.Client) -> None:
    assert web.get("/livez").json() == {"status": "ok"}


def test_readiness_names_each_thing_that_is_missing(web: httpx.Client, redis: Redis, stores: Stores) -> None:
    unready = web.get("/readyz")
    assert unready.status_code == 503
    assert unready.headers["Content-Type"] == "application/problem+json"
    checks = unready.json()["checks"]
    assert {name: check["ok"] for name, check in checks.items()} == {"redis": True, "worker": False, "forecast": False}
    forecast_stored(stores, ingested(stores))
    worker_alive(redis)
    ready = web.get("/readyz")
    assert ready.status_code == 200
    assert all(check["ok"] for check in ready.json()["checks"].values())


def test_a_stale_forecast_is_not_ready(web: httpx.Client, redis: Redis, stores: Stores) -> None:
    forecast_stored(stores, ingested(stores, last_open_time_ms=newest_closed_candle() - 5 * HOUR_MS))
    worker_alive(redis)
    checks = web.get("/readyz").json()["checks"]
    assert {name for name, check in checks.items() if not check["ok"]} == {"forecast"}


def test_the_api_describes_itself_and_its_answers_are_as_described(web: httpx.Client, stores: Stores) -> None:
    forecast = forecast_stored(stores, ingested(stores))
    document = web.get("/openapi/openapi.json").json()
    assert document["openapi"].startswith("3.1")
    assert document["components"]["securitySchemes"] == {"write_token": {"type": "http", "scheme": "bearer"}}
    assert document["paths"]["/api/v1/forecasts"]["post"]["security"] == [{}, {"write_token": []}]
    assert set(document["paths"]) == {
        "/api/v1/forecasts",
        "/api/v1/forecasts/latest",
        "/api/v1/forecasts/{forecast_id}",
        "/api/v1/forecasts/{forecast_id}/paths.csv",
        "/api/v1/forecasts/{forecast_id}/paths.bin",
        "/api/v1/forecasts/{forecast_id}/chart.json",
        "/api/v1/forecasts/{forecast_id}/paths.parquet",
        "/api/v1/forecasts/{forecast_id}/paths.json",
        "/api/v1/forecasts/{forecast_id}/paths/{number}",
        "/api/v1/forecasts/{forecast_id}/quantiles.csv",
        "/api/v1/forecasts/{forecast_id}/events",
        "/api/v1/forecasts/{forecast_id}/outcome",
        "/api/v1/forecasts/{forecast_id}/probability",
        "/api/v1/track-record",
        "/api/v1/ledger",
        "/api/v1/ledger.csv",
        "/api/v1/ledger.parquet",
        "/api/v1/imported.csv",
        "/api/v1/events",
        "/api/v1/models",
        "/api/v1/workers",
        "/api/v1/queue",
        "/api/v1/queue/failed",
        "/api/v1/series",
    }
    references = [part.split('"')[0] for part in json.dumps(document).split('"$ref": "#/components/schemas/')[1:]]
    assert set(references) <= set(document["components"]["schemas"])
    assert set(references) >= {"ForecastOverrides", "Problem", "ForecastAnswer", "LatestAnswer"}
    for name, path in {
        "LatestAnswer": "/api/v1/forecasts/latest",
        "ForecastAnswer": f"/api/v1/forecasts/{forecast.id}",
        "ForecastsAnswer": "/api/v1/forecasts",
        "OutcomeAnswer": f"/api/v1/forecasts/{forecast.id}/outcome",
        "SeriesAnswer": "/api/v1/series",
        "Problem": "/api/v1/forecasts/unknown",
    }.items():
        schema = {"$ref": f"#/components/schemas/{name}", "components": document["components"]}
        Draft202012Validator(schema).validate(web.get(path).json())
    schema = {"$ref": "#/components/schemas/AcceptedAnswer", "components": document["components"]}
    ingested(stores, symbol="ETHUSDT")
    for wishes in ({}, {"symbols": ["BTCUSDT", "ETHUSDT"]}):
        Draft202012Validator(schema).validate(web.post("/api/v1/forecasts", json=wishes).json())


@pytest.mark.parametrize("path", ["/", "/api/v1/series", "/livez", "/nothing-here", "/static/page.js"])
def test_every_answer_forbids_what_it_does_not_need(web: httpx.Client, path: str) -> None:
    headers = web.get(path).headers
    policy = headers["Content-Security-Policy"]
    assert "default-src 'self'" in policy
    assert "script-src 'self'" in policy
    assert "unsafe-eval" not in policy
    assert headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize("path", ["/", "/api/v1/forecasts/latest", "/static/vendor/plotly-finance.min.js"])
def test_answers_are_smaller_for_whoever_takes_gzip_and_the_same_in_content(
    web: httpx.Client, stores: Stores, path: str
) -> None:
    forecast_stored(stores, ingested(stores))
    plain = web.get(path, headers={"Accept-Encoding": "identity"})
    packed = web.get(path, headers={"Accept-Encoding": "gzip"})
    assert "Content-Encoding" not in plain.headers
    assert packed.headers["Content-Encoding"] == "gzip"
    assert int(packed.headers["Content-Length"]) < int(plain.headers["Content-Length"]) / 2
    assert packed.content == plain.content
    assert packed.headers["Vary"] == plain.headers["Vary"]  # a page's language varies it as well
    assert packed.headers["Vary"].startswith("Accept-Encoding")
    again = web.get(path, headers={"Accept-Encoding": "gzip", "If-None-Match": packed.headers["ETag"]})
    assert again.status_code == 304


def test_another_interval_has_a_latest_forecast_of_its_own(web: httpx.Client, stores: Stores) -> None:
    forecast_stored(stores, ingested(stores))
    other = web.get("/api/v1/forecasts/latest", params={"interval": Interval.H4.value})
    assert other.status_code == 404
    assert "BTCUSDT 4h is not ingested here; these series are: BTCUSDT 1h" in other.json()["detail"]


def test_the_latest_forecast_waits_for_redis_once(web: httpx.Client, redis: Redis, stores: Stores) -> None:
    forecast_stored(stores, ingested(stores))
    worker_alive(redis)
    web.get("/api/v1/forecasts/latest")

    def reads() -> int:
        return int(redis.info("stats")["total_reads_processed"])

    before = reads()
    for _ in range(20):
        assert web.get("/api/v1/forecasts/latest").status_code == 200
    assert reads() - before - 1 <= 20 + 2  # the question itself; and now and then a sign of life of a connection


def test_of_many_series_an_error_names_a_few(web: httpx.Client, stores: Stores) -> None:
    for number in range(30):
        ingested(stores, symbol=f"C{number}USDT", candles=100)
    said = web.get("/api/v1/forecasts/latest?symbol=XYZUSDT&interval=1h").json()["detail"]
    assert said.count(", C") == 19
    assert "and 10 more." in said
