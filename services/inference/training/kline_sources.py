"""Where a training's klines come from: files, folders of files, or the series that ingest keeps up."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from services.inference.training.kline_files import Stretch, find_kline_files, read_stretches
from shared.errors import KlineError
from shared.kline_store import KlineStore, describe_missing_series
from shared.klines import Interval


def read_sources(sources: Sequence[str], interval: Interval, open_store: Callable[[], KlineStore]) -> list[Stretch]:
    """Each source is a file, a folder or a symbol that ingest keeps up, whose kept snapshots are then put together.

    The same symbol may come once only, so that no candle is learned from on both sides of a split by time. Raises KlineError.
    """
    stretches: list[Stretch] = []
    for source in sources:
        path = Path(source)
        if path.is_dir():
            found = [one for file in find_kline_files(path, interval) for one in read_stretches(file, interval)]
        elif path.is_file():
            found = read_stretches(path, interval)
        else:
            found = _from_store(source, interval, open_store())
        twice = {one.symbol for one in stretches} & {one.symbol for one in found}
        if twice:
            raise KlineError(f"{min(twice)} comes from '{source}' and from another source; name it once.")
        stretches += found
    return stretches


def _from_store(symbol: str, interval: Interval, store: KlineStore) -> list[Stretch]:
    status = store.status(symbol, interval)
    if status is None or status.snapshot_id is None:
        known = describe_missing_series(symbol, interval, store.all_statuses())
        raise KlineError(f"'{symbol}' is neither a file nor a folder of klines, and no series either: {known}")
    newest = store.load(status.snapshot_id)
    if newest.origin == "simulated":
        raise KlineError(
            f"The klines of {symbol} {interval} are simulated: nothing can be learned from made-up prices."
        )
    count = newest.last_open_time_ms // interval.ms + 1
    kept = store.followed(symbol, interval, newest.venue, newest.origin, -1, count)
    cuts = np.flatnonzero(np.diff(kept.open_times_ms) != interval.ms) + 1
    parts = zip(np.split(kept.open_times_ms, cuts), np.split(kept.values, cuts), strict=True)
    return [Stretch(symbol, times, values) for times, values in parts]
