"""`kronos-live backtest --workers`: the workers of the queue make what this machine would, behind whatever forecasts wait."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from redis import Redis

from services.cli.common import now_ms
from services.inference.backtest.run import moment_of
from services.inference.backtest.spread import over_workers
from shared.backtest_queue import BacktestQueue
from shared.errors import KronosLiveError
from shared.forecast_queue import ForecastQueue
from shared.forecast_store import ForecastStore
from shared.forecasts import ForecastOverrides
from shared.kline_store import KlineStore
from tests.builders import forecast_request, kline_window, settings
from tests.conftest import PROJECT
from tests.processes import Service, eventually, service
from tests.tiny_models import write_tiny_models
from tests.unit.inference.test_backtest import origins, write_klines

SMALL = ["--from", "2025-01-05", "--to", "2025-01-07", "--every", "3h", "--history", "64", "--horizon", "4", "--json"]


@pytest.fixture
def environment(redis_url: str, tmp_path: Path) -> dict[str, str]:
    return {
        "KRONOS_REDIS__URL": redis_url,
        "KRONOS_MODEL__LOCAL_DIR": str(write_tiny_models(tmp_path / "models")),
        "KRONOS_MODEL__ALLOW_HUB": "false",
        "KRONOS_MODEL__DTYPE": "float32",
        "KRONOS_WORKER__THREADS": "1",
    }


@pytest.fixture
def workers(environment: dict[str, str], tmp_path: Path) -> Iterator[list[Service]]:
    with ExitStack() as stack:
        running = [stack.enter_context(service("worker", environment, tmp_path)) for _ in range(2)]
        for one in running:
            one.wait_for_log("worker_ready")
        yield running


def backtest(environment: dict[str, str], file: Path, out: Path, *more: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "services.cli", "backtest", str(file), *SMALL, "--out", str(out), *more]
    return subprocess.Popen(
        command,
        cwd=PROJECT,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def ended(process: subprocess.Popen[str], seconds: float = 200) -> dict[str, object]:
    out, errors = process.communicate(timeout=seconds)
    assert process.returncode == 0, errors
    record: dict[str, object] = json.loads(out)
    return record


def lines_of(out: Path) -> list[dict[str, dict[str, object]]]:
    file = out / "forecasts.jsonl"
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def test_workers_make_the_very_forecasts_that_this_machine_would(
    workers: list[Service], environment: dict[str, str], redis: Redis, tmp_path: Path
) -> None:
    file = write_klines(tmp_path, 24 * 8)
    spread = ended(backtest(environment, file, tmp_path / "spread", "--paths", "5", "--workers"))
    local = ended(backtest(environment, file, tmp_path / "local", "--paths", "5"))
    assert spread == local
    assert (tmp_path / "spread" / "ledger.jsonl").read_text() == (tmp_path / "local" / "ledger.jsonl").read_text()
    made = [one.log().count("past_forecast_scored") for one in workers]
    assert sum(made) == spread["forecasts"] == 23
    assert min(made) > 0, "both took part"
    # What crossed Redis is gone but for the lines, which expire.
    left = [key.decode() for key in redis.keys("kronos:backtest*")]
    assert len(left) == 23
    assert all(0 < redis.ttl(key) <= 3600 for key in left)


def test_a_forecast_of_the_schedule_goes_before_all_that_waits_of_a_backtest(
    environment: dict[str, str], redis: Redis, tmp_path: Path
) -> None:
    file, out = write_klines(tmp_path, 24 * 8), tmp_path / "out"
    queue, forecasts = ForecastQueue(redis, settings().queue), ForecastStore(redis, keep=10)
    snapshot_id = KlineStore(redis, keep=10).save(kline_window())
    with service("worker", environment, tmp_path) as worker:
        worker.wait_for_log("worker_ready")
        running = backtest(environment, file, out, "--paths", "400", "--workers")
        eventually(lambda: len(lines_of(out)) >= 2, 60, worker.log)
        at_first = worker.log().count("past_forecast_scored")
        queue.enqueue("now", forecast_request(snapshot_id, num_samples=5))
        eventually(lambda: forecasts.exists("now"), 30, worker.log)
        events = [json.loads(line) for line in worker.log().splitlines() if line.startswith("{")]
        before = next(place for place, one in enumerate(events) if one["event"] == "forecast_stored")
        assert ended(running)["forecasts"] == 23
    scored = [one["event"] for one in events[:before]].count("past_forecast_scored")
    assert scored - at_first <= 2, "it waited for no more than what was being made"


def test_ctrl_c_calls_off_what_waits_and_the_same_command_goes_on(
    environment: dict[str, str], redis: Redis, tmp_path: Path
) -> None:
    file, out = write_klines(tmp_path, 24 * 8), tmp_path / "out"
    waiting = f"rq:queue:{settings().queue.backtests_in('light')}"
    with service("worker", environment, tmp_path) as worker:
        worker.wait_for_log("worker_ready")
        first = backtest(environment, file, out, "--paths", "400", "--workers")
        eventually(lambda: len(lines_of(out)) >= 2, 60, worker.log)
        assert redis.llen(waiting) > 0
        first.send_signal(signal.SIGINT)
        _, errors = first.communicate(timeout=30)
        assert first.returncode == 130, errors
        assert "the same command goes on" in " ".join(errors.split())
        assert redis.llen(waiting) == 0
        kept = lines_of(out)
        assert 2 <= len(kept) < 23
        assert ended(backtest(environment, file, out, "--paths", "400", "--workers"))["forecasts"] == 23
        assert worker.log().count("past_forecast_scored") == 23, "not even the one it was at was made twice"
    ids = [line["forecast"]["id"] for line in lines_of(out)]
    assert ids[: len(kept)] == [line["forecast"]["id"] for line in kept]
    assert len(ids) == len(set(ids)) == 23


def test_a_forecast_that_cannot_be_made_ends_the_backtest_with_its_reason(
    environment: dict[str, str], redis: Redis, tmp_path: Path
) -> None:
    file, out = write_klines(tmp_path, 24 * 8), tmp_path / "out"
    with service("worker", {**environment, "KRONOS_MODEL__ALLOW_BUNDLED": "false"}, tmp_path) as worker:
        worker.wait_for_log("worker_ready")
        refused = backtest(environment, file, out, "--paths", "5", "--workers", "--model", "Kronos-base")
        _, errors = refused.communicate(timeout=100)
    assert refused.returncode == 1
    assert "A worker could not make a forecast of the backtest: " in " ".join(errors.split())
    assert "Kronos-base" in errors
    assert redis.llen(f"rq:queue:{settings().queue.backtests_in('light')}") == 0


def test_two_backtests_of_the_same_moments_share_what_is_made_and_one_may_stop(
    environment: dict[str, str], tmp_path: Path
) -> None:
    file = write_klines(tmp_path, 24 * 8)
    with service("worker", environment, tmp_path) as worker:
        worker.wait_for_log("worker_ready")
        one, other = (
            backtest(environment, file, tmp_path / name, "--paths", "300", "--workers") for name in ("1", "2")
        )
        eventually(lambda: min(len(lines_of(tmp_path / name)) for name in ("1", "2")) >= 2, 60, worker.log)
        one.send_signal(signal.SIGINT)
        one.communicate(timeout=30)
        assert one.returncode == 130
        assert ended(other)["forecasts"] == 23, "what the first called off is handed out again"
        assert worker.log().count("past_forecast_scored") == 23


def test_workers_that_have_all_gone_are_waited_for_and_then_missed(
    environment: dict[str, str], redis: Redis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.inference.backtest.spread.PATIENCE_S", 1.0)
    queue, late_ms = BacktestQueue(redis, settings().queue), 0
    (origin,) = origins(kline_window(100).values, 1)
    moment = moment_of(origin, ForecastOverrides(num_samples=2000, horizon=4, history=64), settings())
    with service("worker", environment, tmp_path) as worker:
        worker.wait_for_log("worker_ready")

        def kill(count: int) -> None:
            nonlocal late_ms
            worker.end(signal.SIGKILL)
            late_ms = 120_000

        with pytest.raises(KronosLiveError, match="No worker has given a sign of life for minutes"):
            list(over_workers(queue, lambda: now_ms() + late_ms, kill)([moment]))


def test_moments_of_the_same_question_are_one_job(redis: Redis) -> None:
    (origin,) = origins(kline_window(100).values, 1)
    queue, wishes = BacktestQueue(redis, settings().queue), ForecastOverrides(num_samples=5, horizon=4, history=64)
    one, same = (moment_of(origin, wishes, settings()) for _ in range(2))
    other = moment_of(origin, wishes.model_copy(update={"temperature": 0.9}), settings())
    assert one.job_id == same.job_id != other.job_id
    for moment in (one, same, other):
        queue.hand_out(moment)
    assert redis.llen(f"rq:queue:{settings().queue.backtests_in('light')}") == 2
    assert queue.lost([one.job_id, other.job_id]) == []
    assert queue.call_off([one.job_id]) == 1
    assert queue.lost([one.job_id, other.job_id]) == [one.job_id]
    queue.hand_out(one)
    assert queue.known(one.job_id).content_hash() == origin.known.content_hash()


def test_a_job_that_got_lost_between_queue_and_worker_is_put_back(
    environment: dict[str, str], redis: Redis, tmp_path: Path
) -> None:
    queue, waiting = BacktestQueue(redis, settings().queue), f"rq:queue:{settings().queue.backtests_in('light')}"
    (origin,) = origins(kline_window(100).values, 1)
    moment = moment_of(origin, ForecastOverrides(num_samples=5, horizon=4, history=64), settings())
    queue.hand_out(moment)
    redis.lmove(waiting, f"{waiting}:intermediate")  # as a worker takes it that Redis' answer does not reach
    assert queue.stranded([moment.job_id]) == {moment.job_id}
    with service("worker", environment, tmp_path) as worker:
        worker.wait_for_log("worker_ready")
        (line,) = over_workers(queue, now_ms, lambda _: None)([moment])
    assert line.forecast.id == moment.forecast_id
    assert queue.stranded([moment.job_id]) == set()
