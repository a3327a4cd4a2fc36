"""`python -m benchmarks.startup`: how soon a worker is ready (loaded, warmed up), and how much memory it holds.

Starts a real worker, as a process of its own, on a checkpoint of the published size with random weights and against a
Redis of its own; asks it for the configured forecast; and reads its memory from the system (Linux).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from time import perf_counter, sleep

import click
from pydantic import SecretStr

from benchmarks.models import SIZES, random_modules, random_walk_klines
from services.inference.checkpoints import PUBLISHED_MODELS
from services.inference.training.checkpoint_folder import write_checkpoint
from services.local_redis import redis_server_binary
from shared.forecast_queue import ForecastQueue
from shared.forecasts import ForecastOverrides, build_request
from shared.kline_store import KlineStore
from shared.klines import Interval, KlineWindow
from shared.redis_connection import connect, wait_until_ready
from shared.settings import Settings, load_settings

PATIENCE_S = 120


@click.command(help=__doc__)
@click.option("--model", default="Kronos-small", type=click.Choice(list(SIZES)), show_default=True)
@click.option("--dtype", default="auto", type=click.Choice(["float32", "bfloat16", "int8", "auto"]), show_default=True)
@click.option("--repeat", default=3, type=click.IntRange(1), show_default=True)
@click.option("--json", "as_json", is_flag=True)
def main(model: str, dtype: str, repeat: int, as_json: bool) -> None:
    with tempfile.TemporaryDirectory() as folder, local_redis(Path(folder)) as url:
        kronos, tokenizer = random_modules(model)
        write_checkpoint(kronos, Path(folder, model))
        write_checkpoint(tokenizer, Path(folder, PUBLISHED_MODELS[model].tokenizer.name))
        os.environ |= {
            "KRONOS_REDIS__URL": url,
            "KRONOS_MODEL__MODEL_NAME": model,
            "KRONOS_MODEL__LOCAL_DIR": folder,
            "KRONOS_MODEL__DTYPE": dtype,
            "KRONOS_LOGS__FORMAT": "json",
        }
        settings = load_settings()
        starts = [_start(settings, Path(folder, f"worker-{turn}.log")) for turn in range(repeat)]
    measured = {
        "model": model,
        "dtype": dtype,
        "ready_seconds": median(start["ready_seconds"] for start in starts),
        "resident_mb": max(start["resident_mb"] for start in starts),
        "peak_resident_mb": max(start["peak_resident_mb"] for start in starts),
        "starts": starts,
    }
    if as_json:
        click.echo(json.dumps(measured))
        return
    seconds = ", ".join(f"{start['ready_seconds']:.2f}" for start in starts)
    click.echo(f"{model} in {dtype}: ready after {measured['ready_seconds']:.2f} s (median of {seconds})")
    click.echo(
        f"memory after a forecast {measured['resident_mb']:.0f} MB resident, {measured['peak_resident_mb']:.0f} MB at most"
    )


@contextmanager
def local_redis(folder: Path) -> Iterator[str]:
    """A Redis on a socket in the folder, which collides with nothing."""
    socket = folder / "redis.sock"
    server = subprocess.Popen(
        [redis_server_binary(), "--port", "0", "--unixsocket", socket, "--save", "", "--dir", folder],
        stdout=subprocess.DEVNULL,
    )
    try:
        url = f"unix://{socket}"
        wait_until_ready(connect(load_settings().redis.model_copy(update={"url": SecretStr(url)})))
        yield url
    finally:
        server.terminate()
        server.wait(30)


def _start(settings: Settings, log: Path) -> dict[str, float]:
    """One worker, from its start to its end."""
    began = perf_counter()
    with log.open("wb") as out:
        worker = subprocess.Popen([sys.executable, "-m", "services.cli", "worker"], stdout=out, stderr=out)
    try:
        _wait(lambda: "worker_ready" in log.read_text(), worker, log)
        ready = perf_counter() - began
        _make_a_forecast(settings, worker, log)
        status = dict(line.split(":", 1) for line in Path(f"/proc/{worker.pid}/status").read_text().splitlines())
        megabytes = {name: int(status[name].split()[0]) / 1024 for name in ("VmRSS", "VmHWM", "RssFile")}
        return {
            "ready_seconds": ready,
            "resident_mb": megabytes["VmRSS"],
            "mapped_files_mb": megabytes["RssFile"],
            "peak_resident_mb": megabytes["VmHWM"],
        }
    finally:
        worker.terminate()
        worker.wait(30)


def _make_a_forecast(settings: Settings, worker: subprocess.Popen[bytes], log: Path) -> None:
    redis = connect(settings.redis)
    times, values = random_walk_klines(settings.data.history_window)
    window = KlineWindow("BTCUSDT", Interval.H1, "random walk", "recorded", times, values)
    snapshot_id = KlineStore(redis, settings.retention.snapshots_per_series).save(window)
    request = build_request(settings, ForecastOverrides(), snapshot_id, scheduled=False, seed=1)
    queue = ForecastQueue(redis, settings.queue)
    queue.enqueue(f"startup-{worker.pid}", request)
    _wait(lambda: queue.status(f"startup-{worker.pid}").state == "finished", worker, log)


def _wait(until: Callable[[], bool], worker: subprocess.Popen[bytes], log: Path) -> None:
    deadline = perf_counter() + PATIENCE_S
    while not until():
        if worker.poll() is not None or perf_counter() > deadline:
            raise SystemExit(f"The worker did not get there:\n{log.read_text()}")
        sleep(0.01)


if __name__ == "__main__":
    main()
