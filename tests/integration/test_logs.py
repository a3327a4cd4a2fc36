"""One id in the JSON logs of every service tells a forecast's whole way, from a candle or a wish to the open page."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
from redis import Redis

from tests.integration.test_service_metrics import ingest
from tests.processes import Service, eventually, service
from tests.venue_server import VenueServer
from tests.web_server import web_server


def told_of(forecast_id: str, *logs: str) -> list[tuple[str, str]]:
    """Service and event of every line that names a forecast, in time."""
    lines = [json.loads(line) for log in logs for line in log.splitlines() if line.startswith("{")]
    about = sorted(
        (line["timestamp"], line["service"], line["event"]) for line in lines if line.get("forecast") == forecast_id
    )
    return [(by, event) for _, by, event in about]


def latest(running: Service) -> str:
    """The forecast that a service was last to speak of."""
    lines = [json.loads(line) for line in running.log().splitlines() if line.startswith("{")]
    return next(str(line["forecast"]) for line in reversed(lines) if "forecast" in line)


def test_a_forecast_can_be_followed_through_all_services_by_its_id(
    redis: Redis, redis_url: str, environment: dict[str, str], tmp_path: Path
) -> None:
    with (
        VenueServer() as venue,
        web_server(redis_url, tmp_path) as (address, web),
        service("worker", environment, tmp_path) as worker,
        ingest(redis_url, tmp_path, venue.url) as ingesting,
        httpx.Client(base_url=address, timeout=60, trust_env=False) as client,
    ):
        ingesting.wait_for_log("forecast_enqueued")
        worker.wait_for_log("forecast_stored", 120)
        with client.stream("GET", "/api/v1/events") as stream:
            assert any('"latest": "BTCUSDT' in line for line in stream.iter_lines())
        scheduled = latest(ingesting)
        asked = client.post("/api/v1/forecasts", json={"num_samples": 2}).json()["id"]
        eventually(lambda: worker.log().count("forecast_stored") == 2, 120, worker.log)
        web.wait_for_log("pages_told")
        logs = ingesting.log(), worker.log(), web.log()
    made = [("inference", "forecast_begun"), ("inference", "forecast_stored")]
    assert told_of(scheduled, *logs) == [("ingest", "forecast_enqueued"), *made, ("web", "pages_told")]
    assert told_of(asked, *logs) == [("web", "forecast_asked"), *made]
