"""`python -m benchmarks.ingest`: how many series one ingest keeps up, how soon, and what that takes.

Starts a Redis, a venue on loopback that speaks Binance's protocol, and a real ingest that is told of so many series. Counted
is from the ingest's start until each of them has its snapshot and its forecast in the queue. The venue answers at once, so what
is seen is ingest's own pace: `venues.binance_requests_per_minute`, or what this machine can do where `--pace` asks for more.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path

import click
from pydantic import SecretStr

from benchmarks.soak.memory import resident_mib
from benchmarks.startup import local_redis
from services.inference.processors import cores_available
from shared.forecast_queue import ForecastQueue
from shared.klines import Interval
from shared.redis_connection import connect
from shared.settings import load_settings
from tests.venue_server import VenueServer

MINUTES_OF_PATIENCE = 20
TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Kept:
    """What one ingest took for so many series."""

    series: int
    seconds: float
    requests: int
    processor_s: float
    memory_mib: float


@click.command(help=__doc__)
@click.option(
    "--series", "counts", multiple=True, default=(65, 500, 1000), type=click.IntRange(1, 5001), show_default=True
)
@click.option("--interval", default=Interval.D1, type=click.Choice([*Interval]), show_default=True)
@click.option("--pace", default=2400, type=click.IntRange(1, 100_000), show_default=True, help="requests a minute")
@click.option("--history", default=1000, type=click.IntRange(64, 2000), show_default=True, help="candles in a snapshot")
@click.option("--json", "as_json", is_flag=True)
def main(counts: Sequence[int], interval: Interval, pace: int, history: int, as_json: bool) -> None:
    began_at_load = os.getloadavg()[0]
    kept = [_keep_up(count, interval, pace, history) for count in counts]
    if as_json:
        click.echo(json.dumps({"load_at_start": began_at_load, "pace": pace, "kept": [asdict(one) for one in kept]}))
        return
    click.echo(f"{cores_available(1)} cores, a load of {began_at_load:.1f} before this began, {pace} requests a minute")
    for one in kept:
        rate = 60 * one.requests / one.seconds
        click.echo(
            f"{one.series} series: {one.seconds:.1f} s, {one.requests} requests ({rate:.0f} a minute), "
            f"{1000 * one.processor_s / one.series:.0f} ms of a processor each, {one.memory_mib:.0f} MiB"
        )


def _keep_up(count: int, interval: Interval, pace: int, history: int) -> Kept:
    symbols = [f"C{place}USDT" for place in range(count)]
    with tempfile.TemporaryDirectory() as folder, local_redis(Path(folder)) as redis_url, _venue(symbols) as venue:
        knobs = {
            "KRONOS_REDIS__URL": redis_url,
            "KRONOS_DATA__VENUES": "binance",
            "KRONOS_DATA__SYMBOL": symbols[0],
            "KRONOS_DATA__INTERVAL": str(interval),
            "KRONOS_DATA__SERIES": ",".join(f"{symbol}:{interval}" for symbol in symbols[1:]),
            "KRONOS_VENUES__BINANCE_URLS": venue.url,
            "KRONOS_VENUES__BINANCE_REQUESTS_PER_MINUTE": str(pace),
            "KRONOS_LIMITS__MAX_HISTORY": str(history),
            "KRONOS_METRICS__ENABLED": "false",
            "KRONOS_LOGS__FORMAT": "json",
        }
        with Path(folder, "ingest.log").open("w") as log:
            command = [sys.executable, "-m", "services.cli", "ingest"]
            began = time.monotonic()
            ingest = subprocess.Popen(command, env={**os.environ, **knobs}, stdout=log, stderr=log)
            try:
                _wait_for_forecasts(redis_url, count, ingest, Path(log.name))
                seconds = time.monotonic() - began
                return Kept(count, seconds, venue.asked(), _processor_s(ingest.pid), resident_mib(ingest.pid))
            finally:
                ingest.terminate()
                ingest.wait()


def _wait_for_forecasts(redis_url: str, count: int, ingest: subprocess.Popen[bytes], log: Path) -> None:
    settings = load_settings()
    redis = settings.redis.model_copy(update={"url": SecretStr(redis_url)})
    queue = ForecastQueue(connect(redis), settings.queue)
    give_up = time.monotonic() + 60 * MINUTES_OF_PATIENCE
    while (waiting := queue.waiting()) < count:
        if ingest.poll() is not None or time.monotonic() > give_up:
            raise click.ClickException(f"{waiting} of {count} forecasts were asked for:\n{log.read_text()[-2000:]}")
        time.sleep(0.1)


def _processor_s(pid: int) -> float:
    """Seconds of a processor that a process has had, in itself and in the system (proc(5))."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_A_SECOND


class Venue:
    """One in a process of its own, so that what it computes is not taken for ingest's."""

    def __init__(self, line: Connection) -> None:
        self._line = line
        self.url = str(line.recv())

    def asked(self) -> int:
        """How many requests for klines there have been."""
        self._line.send("asked")
        return int(self._line.recv())


@contextmanager
def _venue(symbols: Sequence[str]) -> Iterator[Venue]:
    ours, its = get_context("spawn").Pipe()
    process = get_context("spawn").Process(target=_serve, args=(its, symbols), daemon=True)
    process.start()
    try:
        yield Venue(ours)
    finally:
        process.terminate()
        process.join()


def _serve(line: Connection, symbols: Sequence[str]) -> None:
    with VenueServer(real=False, symbols=symbols) as server:
        line.send(server.url)
        while line.recv():
            line.send([path for path, _ in server.asked].count("/api/v3/klines"))


if __name__ == "__main__":
    main()
