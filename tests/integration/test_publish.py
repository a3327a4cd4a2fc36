"""`kronos-live publish` as a process: the site follows the schedule, and what fails there holds up nobody."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
from redis import Redis

from services.publishing.main import Publisher, looked_at
from services.web.situation import Stores
from tests.builders import settings
from tests.integration.conftest import Run
from tests.processes import Service, eventually, service
from tests.web_server import HOUR_MS, forecast_stored, ingested, newest_closed_candle


@contextmanager
def publishing(redis_url: str, folder: Path, **knobs: str) -> Iterator[Service]:
    environment = {
        "KRONOS_REDIS__URL": redis_url,
        "KRONOS_PUBLISH__ENABLED": "true",
        "KRONOS_PUBLISH__FOLDER": str(folder),
    }
    with service("publish", {**environment, **knobs}, folder.parent) as running:
        running.wait_for_log('"publishing"')
        yield running
        assert running.end() == 0


def shows(folder: Path, forecast_id: str, running: Service) -> None:
    page = folder / "index.html"
    eventually(lambda: page.exists() and f"<dd>{forecast_id}</dd>" in page.read_text(), 60, running.log)


def test_the_site_follows_the_schedule_from_before_its_start_on(redis_url: str, stores: Stores, tmp_path: Path) -> None:
    last = newest_closed_candle()
    earlier = forecast_stored(stores, ingested(stores, last_open_time_ms=last - HOUR_MS))
    with publishing(redis_url, tmp_path / "site") as running:
        shows(tmp_path / "site", earlier.id, running)
        later = forecast_stored(stores, ingested(stores, last_open_time_ms=last))
        shows(tmp_path / "site", later.id, running)
        assert looked_at(tmp_path / "site").exists()
    assert "publish_stopped" in running.log()
    assert "Traceback" not in running.log()


def test_it_waits_for_a_first_forecast(redis_url: str, stores: Stores, tmp_path: Path) -> None:
    with publishing(redis_url, tmp_path / "site") as running:
        eventually(looked_at(tmp_path / "site").exists, 60, running.log)
        assert not (tmp_path / "site").exists()
        shows(tmp_path / "site", forecast_stored(stores, ingested(stores)).id, running)


def test_it_is_written_once_for_each_forecast_and_again_when_that_is_stale(stores: Stores, tmp_path: Path) -> None:
    window = ingested(stores)
    forecast_stored(stores, window)
    delivered = settings()
    knobs = delivered.publish.model_copy(update={"folder": tmp_path / "site"})
    publisher = Publisher(delivered.model_copy(update={"publish": knobs}), stores.klines, stores.forecasts)
    page, fresh_ms = tmp_path / "site" / "index.html", window.last_close_time_ms + 10_000
    assert [publisher.look(fresh_ms), publisher.look(fresh_ms + 60_000)] == [True, False]
    assert "STALE" not in page.read_text()
    late_ms = window.last_close_time_ms + 2 * HOUR_MS
    assert [publisher.look(late_ms), publisher.look(late_ms + HOUR_MS)] == [True, False]
    assert "STALE" in page.read_text()


def test_a_site_that_cannot_be_written_leaves_the_forecast_stored_and_the_page_serving(
    redis_url: str, stores: Stores, web: httpx.Client, tmp_path: Path
) -> None:
    folder = tmp_path / "site"
    folder.write_text("a file where the folder should be")
    forecast = forecast_stored(stores, ingested(stores))
    with publishing(redis_url, folder) as running:
        running.wait_for_log("site_not_written")
        assert f"cannot be written to {folder}" in running.log()
        assert stores.forecasts.load(forecast.id) == forecast
        assert forecast.id in web.get("/").text
        assert running.process.poll() is None


def test_a_redis_that_does_not_answer_is_waited_for(
    redis: Redis, stores: Stores, redis_port: int, tmp_path: Path
) -> None:
    forecast = forecast_stored(stores, ingested(stores))
    redis.acl_setuser("publisher", enabled=True, passwords=["+right"], keys="*", categories=["+@all"])
    try:
        redis.acl_setuser("publisher", enabled=False)
        with publishing(f"redis://publisher:right@127.0.0.1:{redis_port}/0", tmp_path / "site") as running:
            running.wait_for_log("site_not_written")
            redis.acl_setuser("publisher", enabled=True)
            shows(tmp_path / "site", forecast.id, running)
    finally:
        redis.acl_deluser("publisher")


def test_where_it_is_not_enabled_it_says_so_and_ends(run: Run) -> None:
    refused = run("publish")
    assert refused.returncode == 2
    assert refused.stderr.startswith("kronos-live: publish.enabled (KRONOS_PUBLISH__ENABLED) is false")
    assert len(refused.stderr.splitlines()) == 1
