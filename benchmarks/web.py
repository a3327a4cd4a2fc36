"""`python -m benchmarks.web`: the latest forecast at a given rate, beside open event streams, on a server of its own.

Starts a Redis and `kronos-live web`, both on this machine alone, with one forecast of 30 paths in the store. Requests come
at even moments whether or not earlier ones are answered (an open loop), and each time counts from the moment at which a
request was due, so that a server that falls behind cannot hide it.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import click
import numpy as np

from benchmarks.startup import local_redis
from services.web.situation import Stores
from shared.forecast_queue import ForecastQueue
from shared.forecast_store import ForecastStore
from shared.kline_store import KlineStore
from shared.klines import Interval
from shared.redis_connection import connect
from shared.settings import load_settings
from tests.web_server import forecast_stored, ingested

LATEST = "/api/v1/forecasts/latest"
EVENTS = "/api/v1/events"
CONNECTIONS = 16  # kept open, as a proxy or a program's connection pool would
PATIENCE_S = 30


@click.command(help=__doc__)
@click.option("--rate", default=300, type=click.IntRange(1), show_default=True, help="requests a second")
@click.option("--seconds", default=20, type=click.IntRange(1), show_default=True)
@click.option("--streams", default=500, type=click.IntRange(0), show_default=True, help="open event streams")
@click.option("--json", "as_json", is_flag=True)
def main(rate: int, seconds: int, streams: int, as_json: bool) -> None:
    with tempfile.TemporaryDirectory() as folder, web_with_a_forecast(Path(folder)) as address:
        alone = asyncio.run(_requests(address, rate, seconds))
        opened = asyncio.run(_with_streams(address, rate, seconds, streams)) if streams else None
    measured = {"rate": rate, "seconds": seconds, "cores": os.cpu_count(), "alone": alone, "with_streams": opened}
    if as_json:
        click.echo(json.dumps(measured))
        return
    click.echo(f"latest, {rate} requests/s for {seconds} s, {os.cpu_count()} cores: {_in_words(alone)}")
    if opened:
        click.echo(
            f"{streams} event streams: all open after {opened['open_seconds']:.2f} s, "
            f"{opened['streams_alive']} alive and told of a change within {opened['told_seconds']:.2f} s"
        )
        click.echo(f"latest beside them: {_in_words(opened)}")


def _in_words(measured: dict[str, float]) -> str:
    return (
        f"p50 {measured['p50_ms']:.1f} ms, p99 {measured['p99_ms']:.1f} ms, at most {measured['max_ms']:.1f} ms, "
        f"{measured['failed']:.0f} of {measured['requests']:.0f} failed"
    )


@contextmanager
def web_with_a_forecast(folder: Path) -> Iterator[str]:
    """The web service on a free port of 127.0.0.1 and its Redis, both of their own, with a forecast to show."""
    with local_redis(folder) as url:
        os.environ |= {"KRONOS_REDIS__URL": url, "KRONOS_WEB__PORT": "0", "KRONOS_LOGS__FORMAT": "json"}
        _one_forecast()
        log = folder / "web.log"
        with log.open("wb") as out:
            web = subprocess.Popen([sys.executable, "-m", "services.cli", "web"], stdout=out, stderr=out)
        try:
            yield _address(web, log)
        finally:
            web.terminate()
            web.wait(30)


def _stores() -> Stores:
    settings = load_settings()
    redis = connect(settings.redis)
    return Stores(KlineStore(redis, 10), ForecastStore(redis, 10), ForecastQueue(redis, settings.queue))


def latest_forecast_id() -> str:
    """Of the one forecast that the web service shows."""
    forecast = _stores().forecasts.newest("BTCUSDT", Interval.H1, 1)[0]
    return forecast.id


def _one_forecast() -> None:
    stores = _stores()
    forecast_stored(stores, ingested(stores, origin="simulated"))


def _address(web: subprocess.Popen[bytes], log: Path) -> str:
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline and web.poll() is None:
        for line in log.read_text().splitlines():
            if '"listening"' in line:
                return str(json.loads(line)["address"])
        time.sleep(0.05)
    raise SystemExit(f"The web service did not start:\n{log.read_text()}")


async def _requests(address: str, rate: int, seconds: int) -> dict[str, float]:
    """`rate` requests a second over CONNECTIONS kept connections; milliseconds from the moment each was due."""
    due = [number / rate for number in range(rate * seconds)]
    took: list[float] = []
    failed = 0
    next_one = iter(due)
    began = time.perf_counter() + 0.1

    async def client() -> None:
        nonlocal failed
        reader, writer = await _connect(address)
        for moment in next_one:
            await asyncio.sleep(max(0.0, began + moment - time.perf_counter()))
            writer.write(f"GET {LATEST} HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept-Encoding: gzip\r\n\r\n".encode())
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            headers = dict(line.lower().split(": ", 1) for line in head.split("\r\n")[1:] if line)
            await reader.readexactly(int(headers["content-length"]))
            took.append(time.perf_counter() - began - moment)
            failed += not head.startswith("HTTP/1.1 200")
            if headers.get("connection") == "close":
                writer.close()
                reader, writer = await _connect(address)
        writer.close()

    await asyncio.gather(*(client() for _ in range(CONNECTIONS)))
    milliseconds = 1000 * np.array(took)
    return {
        "requests": len(took),
        "failed": failed,
        "p50_ms": float(np.quantile(milliseconds, 0.5)),
        "p99_ms": float(np.quantile(milliseconds, 0.99)),
        "max_ms": float(milliseconds.max()),
    }


async def _with_streams(address: str, rate: int, seconds: int, count: int) -> dict[str, float]:
    """The same while `count` streams are open; then one change, of which each must hear."""
    began = time.perf_counter()
    streams = await asyncio.gather(*(_open_stream(address) for _ in range(count)))
    open_seconds = time.perf_counter() - began
    measured = await _requests(address, rate, seconds)
    changed = time.perf_counter()
    stores = await asyncio.to_thread(_stores)
    await asyncio.to_thread(ingested, stores, origin="simulated", state="stale", problem="for the benchmark")
    heard = await asyncio.gather(*(_hears(reader) for reader, _ in streams))
    told_seconds = time.perf_counter() - changed
    for _, writer in streams:
        writer.close()
    return {**measured, "open_seconds": open_seconds, "streams_alive": sum(heard), "told_seconds": told_seconds}


async def _connect(address: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    place = urlsplit(address)
    return await asyncio.open_connection(place.hostname, place.port)


async def _open_stream(address: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await _connect(address)
    writer.write(f"GET {EVENTS} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
    await asyncio.wait_for(reader.readuntil(b"event: change"), PATIENCE_S)
    return reader, writer


async def _hears(reader: asyncio.StreamReader) -> bool:
    try:
        await asyncio.wait_for(reader.readuntil(b"event: change"), 10)
    except (TimeoutError, asyncio.IncompleteReadError):
        return False
    return True


if __name__ == "__main__":
    main()
