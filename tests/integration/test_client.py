"""The Python client against a real service and a real worker; README's lines of it are run as they stand there."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from redis import Redis

from services.web.situation import Stores
from shared.client import KronosLive
from shared.errors import NotFoundError, RequestError, ServiceError
from shared.forecasts import JobStatus
from tests.conftest import PROJECT
from tests.processes import service
from tests.tiny_models import write_tiny_models
from tests.web_server import forecast_stored, ingested, stores_on, web_server

README_LINES = re.search(r"```python\n(from shared\.client.*?)```", (PROJECT / "README.md").read_text(), re.DOTALL)


@pytest.fixture
def stores(redis: Redis) -> Stores:
    return stores_on(redis)


@pytest.fixture
def url(redis_url: str, stores: Stores, tmp_path: Path) -> Iterator[str]:
    ingested(stores)
    with web_server(redis_url, tmp_path) as (address, _):
        yield address


@pytest.fixture
def worker(redis_url: str, tmp_path: Path) -> Iterator[None]:
    environment = {
        "KRONOS_REDIS__URL": redis_url,
        "KRONOS_MODEL__LOCAL_DIR": str(write_tiny_models(tmp_path / "models")),
        "KRONOS_MODEL__ALLOW_HUB": "false",
        "KRONOS_WORKER__THREADS": "1",
    }
    with service("worker", environment, tmp_path):
        yield


@pytest.fixture
def client(url: str) -> Iterator[KronosLive]:
    with KronosLive(url) as client:
        yield client


@pytest.mark.usefixtures("worker")
def test_a_forecast_is_asked_for_waited_for_and_had_as_frames(client: KronosLive) -> None:
    heard: list[JobStatus] = []
    made = client.forecast("BTCUSDT", horizon=6, num_samples=20, seed=7, on_progress=heard.append)
    assert made.record.request.seed == 7
    assert {job.state for job in heard} <= {"queued", "running"}
    assert heard

    steps, paths = made.steps(), made.paths()
    assert list(steps.columns[:2]) == ["mean", "median"]
    assert {"lower_80", "upper_80"} <= set(steps.columns)
    assert steps.index[0] == pd.Timestamp(made.record.open_times_ms[0], unit="ms", tz="UTC")
    assert paths.shape == (20 * 6, 6)
    assert paths.index.names == ["path", "open_time"]
    by_step = paths["close"].groupby("open_time").mean()
    np.testing.assert_allclose(by_step, steps["mean"], rtol=1e-6)
    assert list(by_step.index) == list(steps.index)
    quantiles = made.quantiles([0.1, 0.5, 0.9])  # by the rule of the bands
    for level, column in ((0.1, "lower_80"), (0.5, "median"), (0.9, "upper_80")):
        np.testing.assert_allclose(quantiles[level], steps[column], rtol=1e-6)


def test_finished_forecasts_are_listed_and_say_what_they_are(client: KronosLive, stores: Stores) -> None:
    window = ingested(stores, origin="simulated")
    first = forecast_stored(stores, window, forecast_id="first")
    forecast_stored(stores, window, forecast_id="second", source="bundled")
    newest = client.newest("BTCUSDT", "1h", limit=5)
    assert [one.id for one in newest] == ["second", "first"]
    assert newest[0].labels == ("SIMULATED DATA", "BUNDLED MODEL")
    assert client.get("first").record == first


def test_a_forecast_on_its_way_is_followed_by_its_id(client: KronosLive) -> None:
    job = client.ask(symbol="BTCUSDT", horizon=3)
    assert (job.state, job.position) == ("queued", 0)
    with pytest.raises(ServiceError, match=rf"{job.id} is still queued after 0 s; it stays in the queue"):
        client.get(job.id)


def test_what_the_service_refuses_is_told_in_its_own_words(client: KronosLive) -> None:
    with pytest.raises(RequestError, match="horizon is 0, but allowed is") as refused:
        client.ask(symbol="BTCUSDT", horizon=0)
    assert refused.value.field == "horizon"
    with pytest.raises(NotFoundError, match="nobody"):
        client.get("nobody")


def test_a_service_that_is_not_there_is_told_with_what_to_do(redis_port: int) -> None:
    with pytest.raises(ServiceError, match=r"does not answer .* start it with `kronos-live web`"):
        KronosLive("http://127.0.0.1:1").latest()
    with pytest.raises(ServiceError, match="does not answer"):  # something answers, but it is not HTTP
        KronosLive(f"http://127.0.0.1:{redis_port}", timeout_s=2).latest()


def test_a_token_is_sent_where_one_is_needed(redis_url: str, stores: Stores, tmp_path: Path) -> None:
    ingested(stores)
    token = "a-token-of-at-least-sixteen-characters"  # noqa: S105
    with web_server(redis_url, tmp_path, KRONOS_WEB__WRITE_TOKEN=token) as (address, _):
        with KronosLive(address) as stranger, pytest.raises(ServiceError, match="token"):
            stranger.ask(horizon=3)
        with KronosLive(address, token=token) as friend:
            assert friend.ask(horizon=3).state == "queued"


@pytest.mark.usefixtures("worker")
def test_the_lines_in_readme_run_as_they_stand_there(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert README_LINES is not None
    program = README_LINES[1]
    assert len(program.strip().splitlines()) <= 6
    exec(compile(program.replace("http://127.0.0.1:8000", url), "README.md", "exec"), {})  # noqa: S102
    printed = capsys.readouterr().out
    assert "median" in printed
    assert re.search(r"0\.\d+", printed)


def test_a_forecast_is_cancelled_by_its_id_and_a_finished_one_is_not(client: KronosLive, stores: Stores) -> None:
    job = client.ask(symbol="BTCUSDT", horizon=4)
    assert client.cancel(job.id).state == "cancelled"
    assert stores.queue.waiting() == 0
    with pytest.raises(ServiceError, match="cancelled before it was finished"):
        client.get(job.id)
    finished = forecast_stored(stores, ingested(stores))
    with pytest.raises(ServiceError, match="is finished and can no longer be cancelled"):
        client.cancel(finished.id)
