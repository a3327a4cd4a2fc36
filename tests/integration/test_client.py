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
from shared.forecasts import BASELINE_NAMES, JobStatus
from shared.klines import CLOSE, COLUMNS
from shared.ledger import Ledger
from tests.conftest import PROJECT
from tests.integration.test_web_record import scored
from tests.processes import service
from tests.tiny_models import write_tiny_models
from tests.web_server import forecast_stored, ingested, stores_on, web_server

README_LINES = re.findall(r"```python\n(from shared\.client.*?)```", (PROJECT / "README.md").read_text(), re.DOTALL)


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
    program = README_LINES[0]
    assert len(program.strip().splitlines()) <= 6
    exec(compile(program.replace("http://127.0.0.1:8000", url), "README.md", "exec"), {})  # noqa: S102
    printed = capsys.readouterr().out
    assert "median" in printed
    assert re.search(r"0\.\d+", printed)


def test_readmes_lines_on_what_became_of_forecasts_run_as_they_stand_there(
    url: str, redis: Redis, capsys: pytest.CaptureFixture[str]
) -> None:
    scored(redis, 3)
    program = README_LINES[1]
    exec(compile(program.replace("http://127.0.0.1:8000", url), "README.md", "exec"), {})  # noqa: S102
    printed = capsys.readouterr().out
    for words in ("crps_random_walk", "too few", "close"):
        assert words in printed
    assert any(f"{name}\n" in printed for name in BASELINE_NAMES)


def test_the_ledger_is_a_frame_by_the_candle_that_each_forecast_followed(client: KronosLive, redis: Redis) -> None:
    history = scored(redis, 6)
    frame = client.ledger("BTCUSDT", "1h")
    entries = Ledger(redis).entries("BTCUSDT", history.interval, "live")
    assert frame["forecast_id"].tolist() == [entry.forecast_id for entry in entries], "oldest first"
    assert list(frame.index) == [pd.Timestamp(entry.last_open_time_ms, unit="ms", tz="UTC") for entry in entries]
    assert frame["crps"].tolist() == pytest.approx([entry.scores.crps for entry in entries if entry.scores])
    assert (frame["scored_at"].dt.tz is not None, frame["revised"].dtype) == (True, bool)
    third, fifth = frame.index[2], frame.index[4]
    naive = third.tz_localize(None).isoformat()
    assert list(client.ledger(since=third.to_pydatetime(), until=str(fifth)).index) == list(frame.index[2:4])
    assert list(client.ledger(since=naive, limit=1).index) == [frame.index[-1]], "UTC where no zone is named"
    nothing = client.ledger("ETHUSDT")
    assert (len(nothing), list(nothing.columns)) == (0, list(frame.columns))
    with pytest.raises(RequestError, match="'soon' is no moment"):
        client.ledger(since="soon")
    with pytest.raises(RequestError, match="limit is '0', but allowed is"):
        client.ledger(limit=0)


def test_the_track_record_is_the_one_of_the_api(client: KronosLive, redis: Redis) -> None:
    assert client.track_record().record is None
    scored(redis, 4, origin="simulated")
    found = client.track_record("BTCUSDT", origin="simulated")
    assert found.record
    assert (found.entries, found.record.verdict, found.record.forecasts) == (4, "too few", 4)
    assert client.track_record(origin="simulated", forecaster=found.forecasters[0].forecaster) == found
    with pytest.raises(NotFoundError, match="There is no forecaster 'ffffffffffffffff'"):
        client.track_record(origin="simulated", forecaster="f" * 16)


def test_an_outcome_has_its_candles_and_its_scores(client: KronosLive, redis: Redis, stores: Stores) -> None:
    redis.flushdb()  # what was ingested for the server ends with the same candle, which has one history only
    history = scored(redis, 2)
    found = client.outcome("BTCUSDT-1h-live-100")
    candles = found.candles()
    assert (len(candles), list(candles.columns)) == (24, ["step", *COLUMNS])
    np.testing.assert_array_equal(candles["close"], history.values[100:124, CLOSE])
    assert candles.index[0] == pd.Timestamp(int(history.open_times_ms[100]), unit="ms", tz="UTC")
    assert found.outcome.entry == Ledger(redis).entry("BTCUSDT", history.interval, "live", found.outcome.id)
    assert found.outcome.entry
    asked_for = client.outcome(forecast_stored(stores, ingested(stores), forecast_id="asked-for").id)
    assert (asked_for.outcome.entry, len(asked_for.candles()), asked_for.labels) == (None, 0, ())
    with pytest.raises(NotFoundError, match="nobody"):
        client.outcome("nobody")


def test_a_forecast_is_cancelled_by_its_id_and_a_finished_one_is_not(client: KronosLive, stores: Stores) -> None:
    job = client.ask(symbol="BTCUSDT", horizon=4)
    assert client.cancel(job.id).state == "cancelled"
    assert stores.queue.waiting() == 0
    with pytest.raises(ServiceError, match="cancelled before it was finished"):
        client.get(job.id)
    finished = forecast_stored(stores, ingested(stores))
    with pytest.raises(ServiceError, match="is finished and can no longer be cancelled"):
        client.cancel(finished.id)
