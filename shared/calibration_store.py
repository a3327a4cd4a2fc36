"""What scored forecasts taught, by series and forecaster, in Redis. The only room that knows this key.

kronos:calibration:<symbol>:<interval>:<origin>    hash <forecaster_of> -> SeriesCalibration (JSON)
"""

from __future__ import annotations

from typing import cast

from pydantic import ValidationError
from redis import Redis

from shared.calibration import SeriesCalibration
from shared.klines import Interval, Origin
from shared.redis_connection import redis_errors_translated


class CalibrationStore:
    """The newest of each series and forecaster."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    @redis_errors_translated()
    def save(
        self, symbol: str, interval: Interval, origin: Origin, forecaster: str, calibration: SeriesCalibration
    ) -> None:
        self._redis.hset(_key(symbol, interval, origin), forecaster, calibration.model_dump_json())

    @redis_errors_translated()
    def load(self, symbol: str, interval: Interval, origin: Origin) -> dict[str, SeriesCalibration]:
        """By forecaster. One that another version wrote is learned anew with the next score, and left out until then."""
        stored = cast("dict[bytes, bytes]", self._redis.hgetall(_key(symbol, interval, origin)))
        found = {}
        for forecaster, raw in stored.items():
            try:
                found[forecaster.decode()] = SeriesCalibration.model_validate_json(raw)
            except ValidationError:
                continue
        return found


def _key(symbol: str, interval: Interval, origin: Origin) -> str:
    return f"kronos:calibration:{symbol}:{interval}:{origin}"
