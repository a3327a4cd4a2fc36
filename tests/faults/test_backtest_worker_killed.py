"""A worker dies while it works for a backtest, and so does the backtest: nothing is missing, and nothing is there twice."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from redis import Redis

from shared.klines import Interval
from shared.ledger import Ledger
from tests.faults.recovery import Recovery
from tests.integration.test_backtest_workers import backtest, ended, lines_of
from tests.processes import eventually, service
from tests.tiny_models import write_tiny_models
from tests.unit.inference.test_backtest import write_klines

pytestmark = pytest.mark.slow


@pytest.fixture
def environment(redis_url: str, tmp_path: Path) -> dict[str, str]:
    return {
        "KRONOS_REDIS__URL": redis_url,
        "KRONOS_MODEL__LOCAL_DIR": str(write_tiny_models(tmp_path / "models")),
        "KRONOS_MODEL__ALLOW_HUB": "false",
        "KRONOS_MODEL__DTYPE": "float32",
        "KRONOS_WORKER__THREADS": "1",
    }


def test_a_killed_worker_and_a_killed_backtest_lose_nothing_and_double_nothing(
    redis: Redis, environment: dict[str, str], tmp_path: Path, recovery: Recovery
) -> None:
    file, out = write_klines(tmp_path, 24 * 8), tmp_path / "out"
    options = ("--paths", "400", "--workers", "--seed-ledger")
    with service("worker", environment, tmp_path) as first:
        first.wait_for_log("worker_ready")
        running = backtest(environment, file, out, *options)
        eventually(lambda: len(lines_of(out)) >= 3, 60, first.log)
        first.end(signal.SIGKILL)
    recovery.begins()
    made = len(lines_of(out))
    assert made < 23, "it was to die half way"
    with service("worker", environment, tmp_path) as second:
        eventually(lambda: len(lines_of(out)) > made + 3, 120, second.log)
        recovery.has_ended()
        running.send_signal(signal.SIGKILL)
        running.communicate(timeout=10)
        assert len(lines_of(out)) < 23, "it was to die half way"
        record = ended(backtest(environment, file, out, *options))
    ids = [line["forecast"]["id"] for line in lines_of(out)]
    assert len(ids) == len(set(ids)) == record["forecasts"] == 23
    made = second.log().count("past_forecast_scored") + first.log().count("past_forecast_scored")
    assert made in (22, 23), "none is made again that was there; the first may have died between keeping and saying so"
    assert Ledger(redis).version("BTCUSDT", Interval.H1, "recorded")[0] == 23
