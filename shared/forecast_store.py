"""Finished forecasts with all their paths, in Redis.

The only room that knows these keys, their encoding and how long they are kept.

    kronos:forecast:<id>                        hash: record (JSON), paths (zlib of little-endian float32)
    kronos:forecasts:<symbol>:<interval>        sorted set of all ids by creation time
    kronos:scheduled:<symbol>:<interval>        sorted set of the schedule's ids by the candle that they follow
"""

from __future__ import annotations

import zlib
from typing import cast

import numpy as np
from numpy.typing import NDArray
from redis import Redis

from shared.errors import NotFoundError
from shared.forecasts import Forecast
from shared.klines import Interval
from shared.redis_connection import redis_errors_translated


class ForecastStore:
    """Saves and loads forecasts; `keep` is how many stay for each series."""

    def __init__(self, redis: Redis, keep: int) -> None:
        self._redis = redis
        self._keep = keep

    @redis_errors_translated()
    def save(self, forecast: Forecast, paths: NDArray[np.float32]) -> None:
        """Store a record with its paths, (paths, horizon, columns) as `forecast.paths` says, in one step."""
        if paths.shape != forecast.paths.shape:
            raise ValueError(f"paths of shape {paths.shape} under a record that says {forecast.paths.shape}")
        symbol, interval = forecast.request.symbol, forecast.request.interval
        with self._redis.pipeline(transaction=True) as pipe:
            pipe.hset(
                _forecast_key(forecast.id),
                mapping={
                    "record": forecast.model_dump_json(),
                    "paths": zlib.compress(np.ascontiguousarray(paths, dtype="<f4").tobytes()),
                },
            )
            pipe.zadd(_index_key(symbol, interval), {forecast.id: forecast.created_at.timestamp()})
            if forecast.request.scheduled:
                pipe.zadd(_scheduled_key(symbol, interval), {forecast.id: forecast.last_open_time_ms})
            pipe.execute()
        self._drop_oldest(symbol, interval)

    @redis_errors_translated()
    def exists(self, forecast_id: str) -> bool:
        return bool(self._redis.exists(_forecast_key(forecast_id)))

    @redis_errors_translated()
    def load(self, forecast_id: str) -> Forecast:
        """The record of a forecast. Raises NotFoundError."""
        raw = cast("bytes | None", self._redis.hget(_forecast_key(forecast_id), "record"))
        if raw is None:
            raise NotFoundError(f"There is no finished forecast {forecast_id!r}.")
        return Forecast.model_validate_json(raw)

    @redis_errors_translated()
    def load_paths(self, forecast_id: str) -> NDArray[np.float32]:
        """All paths of a forecast, (paths, horizon, columns). Raises NotFoundError."""
        shape = self.load(forecast_id).paths.shape
        raw = cast("bytes | None", self._redis.hget(_forecast_key(forecast_id), "paths"))
        if raw is None:
            raise NotFoundError(f"The paths of forecast {forecast_id!r} have just been dropped by retention.")
        return np.frombuffer(zlib.decompress(raw), dtype="<f4").reshape(shape).astype(np.float32)

    @redis_errors_translated()
    def newest(self, symbol: str, interval: Interval, limit: int) -> list[Forecast]:
        """Up to `limit` forecasts of a series, newest first."""
        ids = cast("list[bytes]", self._redis.zrevrange(_index_key(symbol, interval), 0, limit - 1))
        with self._redis.pipeline(transaction=False) as pipe:
            for forecast_id in ids:
                pipe.hget(_forecast_key(forecast_id.decode()), "record")
            return [Forecast.model_validate_json(raw) for raw in pipe.execute() if raw is not None]

    @redis_errors_translated()
    def latest_scheduled(self, symbol: str, interval: Interval) -> Forecast | None:
        """The schedule's forecast for the newest candle, as distinct from those that people asked for."""
        ids = cast("list[bytes]", self._redis.zrevrange(_scheduled_key(symbol, interval), 0, 0))
        return self.load(ids[0].decode()) if ids else None

    def _drop_oldest(self, symbol: str, interval: Interval) -> None:
        surplus = cast("list[bytes]", self._redis.zrange(_index_key(symbol, interval), 0, -self._keep - 1))
        if surplus:
            with self._redis.pipeline(transaction=True) as pipe:
                pipe.delete(*(_forecast_key(forecast_id.decode()) for forecast_id in surplus))
                pipe.zrem(_index_key(symbol, interval), *surplus)
                pipe.zrem(_scheduled_key(symbol, interval), *surplus)
                pipe.execute()


def _forecast_key(forecast_id: str) -> str:
    return f"kronos:forecast:{forecast_id}"


def _index_key(symbol: str, interval: Interval) -> str:
    return f"kronos:forecasts:{symbol}:{interval}"


def _scheduled_key(symbol: str, interval: Interval) -> str:
    return f"kronos:scheduled:{symbol}:{interval}"
