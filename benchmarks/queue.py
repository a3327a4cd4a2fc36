"""`python -m benchmarks.queue`: forecasts a minute with several workers, and what the queue itself costs.

Starts a Redis and real workers, all on this machine alone. Throughput: more forecasts than workers wait in the queue, each
of the bundled model on one snapshot; counted is from the moment at which every worker has ended its first until none waits.
The queue's cost: one worker with a tiny model that waits, one forecast at a time. What RQ notes of a job (begun, ended,
after it was stored) and the record's own times say where the milliseconds go; what the forecaster computed is left out.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import click
import numpy as np
from redis import Redis
from rq.job import Job
from rq.serializers import JSONSerializer

from benchmarks.models import random_walk_klines
from benchmarks.startup import local_redis
from services.inference.processors import cores_available
from shared.forecast_queue import ForecastQueue
from shared.forecast_store import ForecastStore
from shared.forecasts import ForecastOverrides, build_request
from shared.kline_store import KlineStore
from shared.klines import Interval, KlineWindow
from shared.redis_connection import connect
from shared.settings import Settings, load_settings
from tests.tiny_models import write_tiny_models

PATIENCE_S = 120  # for a worker to be ready, and for any one forecast
WARM_UP = 5  # forecasts of which the queue's cost is not counted: libraries that are loaded late
BUNDLED_MODEL = {"KRONOS_MODEL__MODEL_NAME": "Kronos-nano", "KRONOS_MODEL__LOCAL_DIR": ""}
START_WANTED_MS, STORED_WANTED_MS = 20, 50


@click.command(help=__doc__)
@click.option("--workers", "counts", multiple=True, default=(1, 2, 4), type=click.IntRange(1, 64), show_default=True)
@click.option("--forecasts", default=60, type=click.IntRange(1), show_default=True, help="for each count of workers")
@click.option("--paths", default=30, type=click.IntRange(1), show_default=True)
@click.option("--costs", default=200, type=click.IntRange(0), show_default=True, help="forecasts to time the queue by")
@click.option("--json", "as_json", is_flag=True)
def main(counts: Sequence[int], forecasts: int, paths: int, costs: int, as_json: bool) -> None:
    began_at_load = os.getloadavg()[0]
    rates = {count: _rate(count, forecasts, paths) for count in counts}
    cost = _cost(costs) if costs else None
    measured = {
        "cores": cores_available(1),
        "load_at_start": began_at_load,
        "paths": paths,
        "forecasts_a_minute": {count: rate for count, (rate, _) in rates.items()},
        "redis_ms_a_forecast": {count: redis_ms for count, (_, redis_ms) in rates.items()},
        "cost_ms": cost,
    }
    if as_json:
        click.echo(json.dumps(measured))
        return
    click.echo(f"{measured['cores']} cores, a load of {began_at_load:.1f} before this began")
    for count, (rate, redis_ms) in rates.items():
        click.echo(
            f"{count} worker{'s' * (count > 1)}, Kronos-nano, {paths} paths: {rate:.0f} forecasts a minute, "
            f"{redis_ms:.1f} ms of Redis' processor time each"
        )
    for name, (half, most) in (cost or {}).items():
        click.echo(f"{name}: p50 {half:.1f} ms, p95 {most:.1f} ms")
    if cost:
        click.echo(f"wanted at p50: {START_WANTED_MS} ms until a job begins, {STORED_WANTED_MS} ms until it is stored")


def _rate(workers: int, forecasts: int, paths: int) -> tuple[float, float]:
    """Forecasts of the bundled model that so many workers make in a minute, and the milliseconds that Redis computes for each,
    with those of our looks at how far they are.
    """
    knobs = {**BUNDLED_MODEL, "KRONOS_SAMPLING__NUM_SAMPLES": str(paths)}
    with tempfile.TemporaryDirectory() as folder, house_with_workers(Path(folder), workers, knobs) as house:
        names = [f"rate-{number}" for number in range(workers + forecasts)]
        before_s = house.redis_computed_s()
        for number, name in enumerate(names):
            house.ask(name, seed=number)
        for name in names:
            house.wait_for(name, every_s=0.2)
        redis_s = house.redis_computed_s() - before_s
        ended = sorted(_stamp(house.job(name).ended_at) for name in names)
    return 60 * forecasts / (ended[-1] - ended[workers - 1]), 1000 * redis_s / len(names)


def _cost(forecasts: int) -> dict[str, tuple[float, float]]:
    """Milliseconds, p50 and p95, that one forecast at a time spends outside the forecaster."""
    with tempfile.TemporaryDirectory() as folder:
        tiny = {"KRONOS_MODEL__LOCAL_DIR": str(write_tiny_models(Path(folder, "models")))}
        with house_with_workers(Path(folder), 1, tiny) as house:
            spent = [house.time_of(f"cost-{number}") for number in range(WARM_UP + forecasts)][WARM_UP:]
    milliseconds = {
        "enqueue to job start": [one.begun_s for one in spent],
        "enqueue to the first computation": [one.computing_s for one in spent],
        "last computation to stored": [one.storing_s for one in spent],
        "enqueue to stored, computation left out": [one.computing_s + one.storing_s for one in spent],
    }
    return {name: _quantiles(seconds) for name, seconds in milliseconds.items()}


def _quantiles(seconds: Sequence[float]) -> tuple[float, float]:
    half, most = 1000 * np.quantile(seconds, (0.5, 0.95))
    return float(half), float(most)


@dataclass(frozen=True)
class Spent:
    """Seconds of one forecast: from before it was enqueued until RQ had begun its job and until the forecaster was called;
    and from when that had made the record until RQ noted the job's end, which is after the forecast was stored.
    """

    begun_s: float
    computing_s: float
    storing_s: float


class House:
    """A Redis with one snapshot and running workers, as whoever asks for forecasts sees it."""

    def __init__(self, redis: Redis, settings: Settings, window: KlineWindow | None) -> None:
        self.redis, self._settings = redis, settings
        self._queue = ForecastQueue(redis, settings.queue)
        self._forecasts = ForecastStore(redis, settings.retention.forecasts_per_series)
        snapshots = KlineStore(redis, settings.retention.snapshots_per_series)
        self.snapshot_id = snapshots.save(window or random_walk_window(settings.data.history_window))

    def ask(self, name: str, *, seed: int, **wishes: object) -> None:
        """Put a forecast in the queue: the configured one, but for wishes as of the API."""
        wanted = ForecastOverrides.model_validate(wishes)
        request = build_request(self._settings, wanted, self.snapshot_id, scheduled=False, seed=seed)
        self._queue.enqueue(name, request)

    def redis_computed_s(self) -> float:
        """Seconds of a processor since Redis was started."""
        told = self.redis.info("cpu")
        return float(told["used_cpu_user"]) + float(told["used_cpu_sys"])

    def job(self, name: str) -> Job:
        return Job.fetch(name, connection=self.redis, serializer=JSONSerializer)

    def wait_for(self, name: str, *, every_s: float) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while (state := self._queue.status(name).state) != "finished":
            if state == "failed" or time.monotonic() > deadline:
                raise SystemExit(f"{name} was not made: {self._queue.status(name)}")
            time.sleep(every_s)

    def time_of(self, name: str) -> Spent:
        """Of a forecast that a waiting worker makes at once."""
        time.sleep(0.02)  # the worker waits again
        asked_at = time.time()
        self.ask(name, seed=1)
        self.wait_for(name, every_s=0.02)
        job, record = self.job(name), self._forecasts.load(name)
        made_at = record.created_at.timestamp()
        return Spent(
            begun_s=_stamp(job.started_at) - asked_at,
            computing_s=made_at - record.provenance.timings_s["total"] - asked_at,
            storing_s=_stamp(job.ended_at) - made_at,
        )


def random_walk_window(candles: int) -> KlineWindow:
    times, values = random_walk_klines(candles)
    return KlineWindow("BTCUSDT", Interval.H1, "random walk", "recorded", times, values)


def _stamp(moment: datetime | None) -> float:
    assert moment is not None, "RQ notes it of every job that has ended"
    return moment.timestamp()


@contextmanager
def house_with_workers(
    folder: Path, workers: int, knobs: Mapping[str, str], window: KlineWindow | None = None
) -> Iterator[House]:
    """So many workers, ready, on a Redis of their own; `knobs` are environment variables, `window` the klines to forecast
    from, a random walk where there are none.
    """
    with local_redis(folder) as url, ExitStack() as running:
        os.environ |= {
            "KRONOS_REDIS__URL": url,
            "KRONOS_MODEL__ALLOW_HUB": "false",
            "KRONOS_METRICS__ENABLED": "false",
            "KRONOS_LOGS__FORMAT": "json",
            **knobs,
        }
        logs = [folder / f"worker-{number}.log" for number in range(workers)]
        processes = [running.enter_context(_worker(log)) for log in logs]
        for process, log in zip(processes, logs, strict=True):
            _wait_until_ready(process, log)
        settings = load_settings()
        yield House(connect(settings.redis), settings, window)


@contextmanager
def _worker(log: Path) -> Iterator[subprocess.Popen[Any]]:
    with log.open("wb") as out:
        process = subprocess.Popen([sys.executable, "-m", "services.cli", "worker"], stdout=out, stderr=out)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(60)


def _wait_until_ready(process: subprocess.Popen[Any], log: Path) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while "worker_ready" not in log.read_text():
        if process.poll() is not None or time.monotonic() > deadline:
            raise SystemExit(f"A worker did not start:\n{log.read_text()}")
        time.sleep(0.05)


if __name__ == "__main__":
    main()
