"""Many forecasts at once: what waits in one shape is drawn side by side, comes out as if alone, and fails alone."""

from __future__ import annotations

import signal
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import httpx
import numpy as np
import pytest
from redis import Redis
from rq import Queue
from rq.executions import Execution

from services.web.situation import Stores
from shared.forecast_queue import ForecastQueue
from tests.builders import forecast_request, kline_window, settings
from tests.processes import Service, eventually, service
from tests.tiny_models import write_tiny_models
from tests.unit.inference.tiny import native_kernels
from tests.web_server import ingested

Start = Callable[..., AbstractContextManager[Service]]
LONG = {"num_samples": 100, "horizon": 200}


@pytest.fixture
def start(redis_url: str, tmp_path: Path) -> Start:
    """Starts a worker that draws so many forecasts at once."""
    environment = {
        "KRONOS_REDIS__URL": redis_url,
        "KRONOS_MODEL__LOCAL_DIR": str(write_tiny_models(tmp_path / "models")),
        "KRONOS_MODEL__ALLOW_HUB": "false",
        "KRONOS_MODEL__DTYPE": "float32",
        "KRONOS_WORKER__THREADS": "1",
    }
    return lambda at_once=0: service(
        "worker", {**environment, "KRONOS_WORKER__FORECASTS_AT_ONCE": str(at_once)}, tmp_path
    )


def enqueue(stores: Stores, forecast_id: str, *, candles: int = 400, **wishes: object) -> None:
    """A waiting forecast on klines of its own."""
    snapshot_id = stores.klines.save(kline_window(candles, seed=sum(forecast_id.encode())))
    assert stores.queue.enqueue(forecast_id, forecast_request(snapshot_id, scheduled=False, **wishes))


def ends(stores: Stores, *ids: str) -> list[str]:
    """Wait for the end of forecasts and return their states."""
    eventually(lambda: all(stores.queue.status(one).state in ("finished", "failed") for one in ids), 120)
    return [stores.queue.status(one).state for one in ids]


def drawn_beside(stores: Stores, *ids: str) -> list[int]:
    return [stores.forecasts.load(one).provenance.side_by_side for one in ids]


def draws(stores: Stores, forecast_id: str) -> Callable[[], bool]:
    """Asks whether the paths of a forecast are being drawn."""

    def asked() -> bool:
        progress = stores.queue.status(forecast_id).progress
        return progress is not None and progress.phase == "drawing paths"

    return asked


def test_a_panel_gives_each_symbol_the_paths_that_it_has_alone(web: httpx.Client, stores: Stores, start: Start) -> None:
    symbols = ["BTCUSDT", "ETHUSDT", "SOLUSDT"]
    for seed, symbol in enumerate(symbols):
        ingested(stores, symbol=symbol, seed=seed)
    wishes = {"horizon": 6, "num_samples": 9}
    panel = web.post("/api/v1/forecasts", json={"symbols": symbols, **wishes}).json()["forecasts"]
    ids = [one["id"] for one in panel]
    with start(at_once=8):
        assert ends(stores, *ids) == ["finished"] * 3
        for symbol, forecast_id in zip(symbols, ids, strict=True):
            together = web.get(f"/api/v1/forecasts/{forecast_id}").json()["forecast"]
            assert (together["request"]["symbol"], together["provenance"]["side_by_side"]) == (symbol, 3)
            seed = together["provenance"]["seed"]
            alone = web.post("/api/v1/forecasts", json={"symbol": symbol, "seed": seed, **wishes}).json()["id"]
            assert ends(stores, alone) == ["finished"]
            assert drawn_beside(stores, alone) == [1]
            assert np.array_equal(stores.forecasts.load_paths(forecast_id), stores.forecasts.load_paths(alone))


def test_what_waits_in_one_shape_goes_together_and_all_others_keep_their_order(stores: Stores, start: Start) -> None:
    for forecast_id, horizon in {"one": 3, "other": 4, "two": 3, "another": 5, "three": 3}.items():
        enqueue(stores, forecast_id, horizon=horizon)
    with start(at_once=8):
        assert ends(stores, "one", "other", "two", "another", "three") == ["finished"] * 5
    assert drawn_beside(stores, "one", "two", "three", "other", "another") == [3, 3, 3, 1, 1]
    in_order = ("three", "other", "another")
    made_at = [stores.forecasts.load(one).created_at for one in in_order]
    assert made_at == sorted(made_at)


@pytest.mark.parametrize(("at_once", "kernels"), [(2, "auto"), (0, "torch")])
def test_no_more_go_together_than_the_knob_says_which_is_two_where_torch_computes(
    stores: Stores, start: Start, monkeypatch: pytest.MonkeyPatch, at_once: int, kernels: str
) -> None:
    monkeypatch.setenv("KRONOS_MODEL__KERNELS", kernels)
    ids = ["a", "b", "c"]
    for one in ids:
        enqueue(stores, one, horizon=3)
    with start(at_once=at_once):
        ends(stores, *ids)
    assert drawn_beside(stores, *ids) == [2, 2, 1]


def test_compiled_kernels_take_one_forecast_after_another_unless_told(stores: Stores, start: Start) -> None:
    native_kernels()
    ids = ["a", "b"]
    for one in ids:
        enqueue(stores, one, horizon=3)
    with start():
        ends(stores, *ids)
    assert drawn_beside(stores, *ids) == [1, 1]


def test_a_forecast_that_draws_until_it_is_sure_goes_alone(stores: Stores, start: Start) -> None:
    for one in ("a", "b"):
        enqueue(stores, one, horizon=3, target_error=0.2)
    with start(at_once=8):
        assert ends(stores, "a", "b") == ["finished"] * 2
    assert drawn_beside(stores, "a", "b") == [1, 1]


def test_one_whose_klines_are_gone_fails_alone_and_the_others_go_together(stores: Stores, start: Start) -> None:
    enqueue(stores, "a", horizon=3)
    assert stores.queue.enqueue("orphan", forecast_request("deadbeefdeadbeef", horizon=3))
    enqueue(stores, "b", horizon=3)
    with start(at_once=8):
        assert ends(stores, "a", "orphan", "b") == ["finished", "failed", "finished"]
    assert "deadbeefdeadbeef" in str(stores.queue.status("orphan").error)
    assert drawn_beside(stores, "a", "b") == [2, 2]


def test_one_that_the_model_cannot_forecast_fails_alone_with_its_own_reason(stores: Stores, start: Start) -> None:
    enqueue(stores, "a", horizon=3)
    enqueue(stores, "new", candles=30, horizon=3)
    enqueue(stores, "b", horizon=3)
    with start(at_once=8) as worker:
        assert ends(stores, "a", "new", "b") == ["finished", "failed", "finished"]
        assert "panel_failed" in worker.log()
        assert "Traceback" not in worker.log().split("panel_failed")[1].splitlines()[0]
    assert "Only 30 candles of BTCUSDT 1h" in str(stores.queue.status("new").error)
    assert [stores.queue.status(one).tries for one in ("a", "new", "b")] == [1, 1, 1]
    assert drawn_beside(stores, "a", "b") == [1, 1]


def test_each_of_a_panel_is_running_with_its_progress_and_a_sign_of_life(
    redis: Redis, stores: Stores, start: Start
) -> None:
    ids = ["a", "b", "c"]
    for one in ids:
        enqueue(stores, one, num_samples=600, horizon=400)
    with start(at_once=3):
        eventually(draws(stores, "a"), 60)
        statuses = [stores.queue.status(one) for one in ids]
        assert [one.state for one in statuses] == ["running"] * 3
        assert all(one.progress and one.progress.total >= 400 for one in statuses)
        running = Queue(settings().queue.name, connection=redis).started_job_registry.get_job_and_execution_ids()
        assert {job_id for job_id, _ in running} == set(ids)

        def all_gave_a_sign() -> bool:
            executions = [Execution.fetch(execution_id, job_id, redis) for job_id, execution_id in running]
            return all(one.last_heartbeat > one.created_at for one in executions)

        eventually(all_gave_a_sign, 30)
        for one in ids:
            assert stores.queue.cancel(one).state == "cancelled"


def test_sigterm_lets_a_panel_end_and_nothing_of_it_is_lost(stores: Stores, start: Start) -> None:
    for one in ("a", "b", "later"):
        enqueue(stores, one, **LONG)
    with start(at_once=2) as worker:
        eventually(draws(stores, "b"), 60)
        assert worker.end(signal.SIGTERM) == 0
    assert [stores.queue.status(one).state for one in ("a", "b", "later")] == ["finished", "finished", "queued"]
    assert drawn_beside(stores, "a", "b") == [2, 2]


def test_sigterm_gives_back_in_their_order_those_that_go_alone_after_their_panel_failed(
    redis: Redis, stores: Stores, start: Start
) -> None:
    enqueue(stores, "a", **LONG)
    enqueue(stores, "new", candles=30, **LONG)
    enqueue(stores, "b", **LONG)
    enqueue(stores, "later", **LONG)
    with start(at_once=3) as worker:
        eventually(draws(stores, "a"), 60)
        assert worker.end(signal.SIGTERM) == 0
    assert stores.queue.status("a").state == "finished"
    waiting = [stores.queue.status(one) for one in ("new", "b", "later")]
    places = [(one.state, one.position) for one in waiting]
    assert places == [("queued", 0), ("queued", 1), ("queued", 2)], worker.log()
    assert Queue(settings().queue.name, connection=redis).started_job_registry.count == 0
    with start(at_once=3):
        assert ends(stores, "new", "b", "later") == ["failed", "finished", "finished"]


def test_a_panel_may_take_as_long_as_its_forecasts_may_one_after_the_other(
    redis: Redis, stores: Stores, start: Start
) -> None:
    impatient = Stores(
        stores.klines,
        stores.forecasts,
        ForecastQueue(redis, settings().queue.model_copy(update={"job_timeout": 2})),  # seconds; a knob has at least 10
    )
    ids = [f"long{number}" for number in range(10)]
    for one in ids:
        enqueue(impatient, one, horizon=200, num_samples=60)
    with start(at_once=10):
        assert ends(stores, *ids) == ["finished"] * 10
    assert drawn_beside(stores, *ids) == [10] * 10
    assert stores.forecasts.load(ids[0]).provenance.timings_s["total"] > 2


def test_what_cannot_be_begun_is_not_taken_along(redis: Redis, stores: Stores) -> None:
    for one in ("a", "b"):
        enqueue(stores, one)

    def dies(*_: object) -> Execution:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stores.queue.take_along("light", lambda _: True, 8, dies)
    assert [stores.queue.status(one).position for one in ("a", "b")] == [0, 1]
    assert Queue(settings().queue.name, connection=redis).started_job_registry.count == 0
