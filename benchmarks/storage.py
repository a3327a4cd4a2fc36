"""`python -m benchmarks.storage`: what a forecast takes of Redis' memory (MEMORY USAGE), by its paths.

A real worker makes them with the bundled model, in a Redis of its own.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path

import click

from benchmarks.queue import BUNDLED_MODEL, House, house_with_workers, random_walk_window
from services.inference.training.kline_files import read_stretches
from shared.klines import Interval, KlineWindow


@click.command(help=__doc__)
@click.option("--klines", type=click.Path(path_type=Path), help="A file of hourly klines; a random walk without.")
@click.option("--candles", default=1000, type=click.IntRange(400), show_default=True, help="in the snapshot")
@click.option("--paths", multiple=True, default=(30, 200), type=click.IntRange(1), show_default=True)
@click.option("--json", "as_json", is_flag=True)
def main(klines: Path | None, candles: int, paths: Sequence[int], as_json: bool) -> None:
    window = _newest(klines, candles) if klines else random_walk_window(candles)
    with (
        tempfile.TemporaryDirectory() as folder,
        house_with_workers(Path(folder), 1, BUNDLED_MODEL, window) as house,
    ):
        measured = {
            "redis": house.redis.info("server")["redis_version"],
            "snapshot": _bytes(house, f"kronos:snapshot:{house.snapshot_id}"),
            "forecasts": {count: _forecast(house, count) for count in paths},
        }
    if as_json:
        click.echo(json.dumps(measured))
        return
    click.echo(f"Redis {measured['redis']}; snapshot of {candles} candles: {measured['snapshot']:,} bytes")
    for count, (forecast, job) in measured["forecasts"].items():
        click.echo(f"forecast of {count} paths: {forecast:,} bytes; its job, for ten minutes: {job:,} bytes")


def _forecast(house: House, paths: int) -> tuple[int, int]:
    """Bytes of one with so many paths, and of what RQ keeps of its job."""
    name = f"storage-{paths}"
    house.ask(name, seed=paths, num_samples=paths)
    house.wait_for(name, every_s=0.1)
    return _bytes(house, f"kronos:forecast:{name}"), _bytes(house, f"rq:job:{name}") + _bytes(
        house, f"rq:results:{name}"
    )


def _bytes(house: House, key: str) -> int:
    """Of a key and all that it holds."""
    taken = house.redis.memory_usage(key, samples=0)
    assert taken, f"there is no {key}"
    return int(taken)


def _newest(file: Path, candles: int) -> KlineWindow:
    """The last candles of a file, of its last stretch without a gap."""
    stretch = read_stretches(file, Interval.H1)[-1]
    times, values = stretch.open_times_ms[-candles:], stretch.values[-candles:]
    return KlineWindow("BTCUSDT", Interval.H1, file.name, "recorded", times, values)


if __name__ == "__main__":
    main()
