"""A forecast's paths in the formats that programs read: CSV, Parquet, JSON, long rows of quantiles. Pure.

Times are open times of the forecast candles in UTC; numbers are the paths' own float32, written so that they read back
the same.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.forecasts import Forecast, QuantileLine

Paths = NDArray[np.float32]  # [paths, horizon, columns]


def csv_rows(forecast: Forecast, paths: Paths) -> Iterator[str]:
    """The paths (paths, horizon, columns) in long format, a chunk of lines for each path."""
    yield ",".join(["path", "step", "open_time", *forecast.paths.columns]) + "\n"
    times = np.array(forecast.open_times_ms, dtype="datetime64[ms]").astype("datetime64[s]").astype(str)
    for number, path in enumerate(paths):
        rows = path.astype(str)  # the shortest text that reads back as the same float32
        yield "".join(
            f"{number},{step},{time}Z,{','.join(row)}\n"
            for step, (time, row) in enumerate(zip(times, rows, strict=True), 1)
        )


def parquet(forecast: Forecast, paths: Paths, labels: list[str]) -> bytes:
    """One row for each path and step, in columns of their own types; what it is of stands in the file's metadata."""
    import pyarrow as pa  # 0.2 s and 40 MB that only whoever asks for Parquet should cost
    import pyarrow.parquet as pq

    count, horizon, _ = paths.shape
    steps = np.arange(1, horizon + 1, dtype=np.int32)
    times = pa.array(np.tile(forecast.open_times_ms, count), pa.timestamp("ms", tz="UTC"))
    columns: dict[str, Any] = {
        "path": np.repeat(np.arange(count, dtype=np.int32), horizon),
        "step": np.tile(steps, count),
        "open_time": times,
        **{name: paths[:, :, number].ravel() for number, name in enumerate(forecast.paths.columns)},
    }
    said = {
        "forecast": forecast.id,
        "symbol": forecast.request.symbol,
        "interval": forecast.request.interval.value,
        "labels": ", ".join(labels),
    }
    table = pa.table(columns).replace_schema_metadata(said)
    file = io.BytesIO()
    pq.write_table(table, file, compression="zstd")
    return file.getvalue()


def json_rows(forecast: Forecast, paths: Paths, labels: list[str]) -> Iterator[str]:
    """All paths as one JSON document, a chunk for each path: `paths` is [paths][horizon][columns]; null is not finite."""
    yield json.dumps(_head(forecast, labels))[:-1] + ', "paths": ['
    for number, path in enumerate(paths):
        yield ("," if number else "") + _matrix(path)
    yield "]}"


def single_path(forecast: Forecast, path: NDArray[np.float32], number: int, labels: list[str]) -> dict[str, Any]:
    """One path, [horizon, columns], beside what says what it is."""
    return {**_head(forecast, labels), "path": number, "values": json.loads(_matrix(path))}


def quantile_rows(forecast: Forecast, columns: Iterable[tuple[str, list[QuantileLine]]]) -> Iterator[str]:
    """CSV in long format: a row for each column, quantile and step; kind `range` where the paths are too few for it."""
    yield "symbol,interval,column,quantile,kind,step,open_time,value\n"
    times = np.array(forecast.open_times_ms, dtype="datetime64[ms]").astype("datetime64[s]").astype(str)
    series = f"{forecast.request.symbol},{forecast.request.interval}"
    for name, lines in columns:
        for line in lines:
            yield "".join(
                f"{series},{name},{line.quantile!r},{line.kind},{step},{time}Z,{value!r}\n"
                for step, (time, value) in enumerate(zip(times, line.values, strict=True), 1)
            )


def _head(forecast: Forecast, labels: list[str]) -> dict[str, Any]:
    return {
        "id": forecast.id,
        "labels": labels,
        "columns": forecast.paths.columns,
        "open_times_ms": forecast.open_times_ms,
    }


def _matrix(path: NDArray[np.float32]) -> str:
    """[horizon, columns] as JSON, each number the shortest that reads back as the same float32."""
    numbers = np.where(np.isfinite(path), path.astype(str), "null")
    return "[" + ",".join(f"[{','.join(row)}]" for row in numbers) + "]"
