"""Finished forecasts with all their paths, in Redis.

The only room that knows these keys, their encoding and how long they are kept.

    kronos:forecast:<id>                             hash: record (JSON), paths (zlib of little-endian float32), draws (of
                                                     its baselines, zlib of little-endian float16)
    kronos:scheduled:<symbol>:<interval>:<origin>    sorted set of the schedule's ids by the candle that they follow
    kronos:adhoc:<symbol>:<interval>                 sorted set of the ids that people asked for, by creation time

Live, simulated and recorded forecasts have an index each, so none of them hides or displaces another, and what people
ask for never displaces the schedule's.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError
from redis import Redis

from shared.errors import NotFoundError
from shared.forecast_pages import Page, merged, read_cursor
from shared.forecasts import Forecast
from shared.imported_ledger import ImportedLedger
from shared.klines import ORIGINS, Interval, Origin
from shared.ledger import Ledger
from shared.logs import get_logger
from shared.redis_connection import redis_errors_translated
from shared.redis_questions import Question, ask_together

# The id with the highest score of an index, and its record: two lookups of which one needs the other's reply.
_TOP_OF_INDEX = """
local top = redis.call('ZREVRANGE', KEYS[1], 0, 0)[1]
if not top then return {} end
return {top, redis.call('HGET', ARGV[1] .. top, 'record')}
"""
# The records of an index behind an id. Retention drops the oldest, so where an id is gone all behind it are gone as well.
_BEHIND = """
local from = 0
if ARGV[2] ~= '' then
  local rank = redis.call('ZREVRANK', KEYS[1], ARGV[2])
  if not rank then return {} end
  from = rank + 1
end
local found = {}
for _, id in ipairs(redis.call('ZREVRANGE', KEYS[1], from, from + ARGV[3] - 1)) do
  found[#found + 1] = {id, redis.call('HGET', ARGV[1] .. id, 'record')}
end
return found
"""
# The ids before and after one in an index, empty where there is none.
_NEIGHBOURS = """
local rank = redis.call('ZRANK', KEYS[1], ARGV[1])
if not rank then return {'', ''} end
local before = rank > 0 and redis.call('ZRANGE', KEYS[1], rank - 1, rank - 1)[1] or ''
return {before, redis.call('ZRANGE', KEYS[1], rank + 1, rank + 1)[1] or ''}
"""
RECORDS_REMEMBERED = 64  # decoded ones; a record never changes, so whoever reads its bytes again need not decode them

log = get_logger(__name__)


@dataclass(frozen=True)
class Neighbours:
    """The ids of the forecasts before and after one, none where it is the first or the last."""

    previous: str | None
    next: str | None


class ForecastStore:
    """Saves and loads forecasts; `keep` is how many stay for each series."""

    def __init__(self, redis: Redis, keep: int) -> None:
        self._redis = redis
        self._keep = keep
        self.ledger = Ledger(redis)  # what became of the schedule's
        self.imported = ImportedLedger(redis)  # and of what others have published

    @redis_errors_translated()
    def save(self, forecast: Forecast, paths: NDArray[np.float32], draws: NDArray[np.float16] | None = None) -> None:
        """Store a record with its paths, (paths, horizon, columns) as `forecast.paths` says, and the draws (draws, horizon)
        that its baselines speak of, in one step.
        """
        if paths.shape != forecast.paths.shape:
            raise ValueError(f"paths of shape {paths.shape} under a record that says {forecast.paths.shape}")
        index, score = _place(forecast)
        fields: dict[Any, Any] = {
            "record": forecast.model_dump_json(),
            "paths": zlib.compress(np.ascontiguousarray(paths, dtype="<f4").tobytes()),
        }
        if draws is not None:
            fields["draws"] = zlib.compress(np.ascontiguousarray(draws, dtype="<f2").tobytes())
        with self._redis.pipeline(transaction=True) as pipe:
            pipe.hset(_forecast_key(forecast.id), mapping=fields)
            pipe.zadd(index, {forecast.id: score})
            pipe.execute()
        self._drop_oldest(index)

    @redis_errors_translated()
    def exists(self, forecast_id: str) -> bool:
        return bool(self._redis.exists(_forecast_key(forecast_id)))

    @redis_errors_translated()
    def load(self, forecast_id: str) -> Forecast:
        """The record of a forecast. Raises NotFoundError."""
        record = _read(forecast_id, self._record(forecast_id))
        if record is None:
            raise NotFoundError(f"There is no finished forecast {forecast_id!r}.")
        return record

    @redis_errors_translated()
    def load_paths(self, forecast_id: str) -> NDArray[np.float32]:
        """All paths of a forecast, (paths, horizon, columns). Raises NotFoundError."""
        shape = self.load(forecast_id).paths.shape
        raw = cast("bytes | None", self._redis.hget(_forecast_key(forecast_id), "paths"))
        if raw is None:
            raise NotFoundError(f"The paths of forecast {forecast_id!r} have just been dropped by retention.")
        return np.frombuffer(zlib.decompress(raw), dtype="<f4").reshape(shape).astype(np.float32)

    @redis_errors_translated()
    def load_draws(self, forecast: Forecast) -> NDArray[np.float16]:
        """What its baselines draw from, (draws, horizon); no rows where none were stored."""
        raw = cast("bytes | None", self._redis.hget(_forecast_key(forecast.id), "draws"))
        drawn = np.frombuffer(zlib.decompress(raw), dtype="<f2") if raw else np.zeros(0)
        return drawn.astype(np.float16).reshape(-1, forecast.request.horizon)

    @redis_errors_translated()
    def newest(self, symbol: str, interval: Interval, limit: int) -> list[Forecast]:
        """Up to `limit` forecasts of a series, the schedule's and people's, newest first."""
        return self.page(symbol, interval, limit, None).forecasts

    def page(self, symbol: str, interval: Interval, limit: int, cursor: str | None) -> Page:
        """Up to `limit` forecasts of a series, newest first, behind where `cursor` (of an earlier page) points to.

        Forecasts that come in meanwhile neither shift a page nor repeat on it. Raises RequestError for a cursor that is none.
        """
        last_seen = read_cursor(cursor, f"{symbol}:{interval}", len(_indexes(symbol, interval)))
        question = Question(
            tuple(
                ("EVAL", _BEHIND, 1, index, _forecast_key(""), last, limit + 1)
                for index, last in zip(_indexes(symbol, interval), last_seen, strict=True)
            ),
            lambda replies: [[(one[0].decode(), _read_top(one)) for one in reply] for reply in replies],
        )
        found = ask_together(self._redis, question)[question]
        return merged(found, last_seen, limit, f"{symbol}:{interval}")

    @redis_errors_translated()
    def latest_scheduled(self, symbol: str, interval: Interval, origin: Origin) -> Forecast | None:
        """The schedule's forecast for the newest candle of that origin, as distinct from those that people asked for."""
        for forecast_id in cast("list[bytes]", self._redis.zrevrange(_scheduled_key(symbol, interval, origin), 0, 0)):
            return _read(forecast_id.decode(), self._record(forecast_id.decode()))
        return None

    @redis_errors_translated()
    def scheduled_ids(self, symbol: str, interval: Interval, origin: Origin) -> list[str]:
        """Of the schedule's forecasts that are kept, by the candle that they follow, oldest first."""
        key = _scheduled_key(symbol, interval, origin)
        return [forecast_id.decode() for forecast_id in cast("list[bytes]", self._redis.zrange(key, 0, -1))]

    def latest_question(self, symbol: str, interval: Interval) -> Question[dict[Origin, Forecast | None]]:
        """The same for each origin, to be asked together with others."""

        def read(replies: list[Any]) -> dict[Origin, Forecast | None]:
            return {origin: _read_top(reply) for origin, reply in zip(ORIGINS, replies, strict=True)}

        return Question(
            tuple(
                ("EVAL", _TOP_OF_INDEX, 1, _scheduled_key(symbol, interval, origin), _forecast_key(""))
                for origin in ORIGINS
            ),
            read,
        )

    def newest_ids_question(self, symbol: str, interval: Interval) -> Question[tuple[str, ...]]:
        """The newest id of each index of a series, the schedule's and people's: it changes when any forecast is added."""
        return Question(
            tuple(("ZREVRANGE", index, 0, 0) for index in _indexes(symbol, interval)),
            lambda replies: tuple(forecast_id.decode() for reply in replies for forecast_id in reply),
        )

    def neighbours_question(self, forecast: Forecast) -> Question[Neighbours]:
        """The forecasts before and after one in its own index: the schedule's by candle, those of one origin only; or
        people's, by the time at which they were made.
        """
        index, _ = _place(forecast)

        def read(replies: list[Any]) -> Neighbours:
            before, after = (one.decode() or None for one in replies[0])
            return Neighbours(before, after)

        return Question((("EVAL", _NEIGHBOURS, 1, index, forecast.id),), read)

    def _record(self, forecast_id: str) -> bytes | None:
        return cast("bytes | None", self._redis.hget(_forecast_key(forecast_id), "record"))

    def _drop_oldest(self, index: str) -> None:
        surplus = cast("list[bytes]", self._redis.zrange(index, 0, -self._keep - 1))
        if surplus:
            with self._redis.pipeline(transaction=True) as pipe:
                pipe.delete(*(_forecast_key(forecast_id.decode()) for forecast_id in surplus))
                pipe.zrem(index, *surplus)
                pipe.execute()


def _read(forecast_id: str, raw: bytes | None) -> Forecast | None:
    """A record, or None where there is none that this version can read: one that another version wrote is left alone."""
    if raw is None:
        return None
    try:
        return _decoded(raw)
    except ValidationError as error:
        log.warning("record_of_another_version", forecast=forecast_id, problems=error.error_count())
        return None


@lru_cache(maxsize=RECORDS_REMEMBERED)
def _decoded(raw: bytes) -> Forecast:
    return Forecast.model_validate_json(raw)


def _read_top(reply: list[bytes | None]) -> Forecast | None:
    """What _TOP_OF_INDEX found: nothing, or an id and its record."""
    if not reply or reply[0] is None:
        return None
    return _read(reply[0].decode(), reply[1] if len(reply) > 1 else None)


def _place(forecast: Forecast) -> tuple[str, float]:
    """The index that a forecast belongs to, and its score there."""
    symbol, interval = forecast.request.symbol, forecast.request.interval
    if forecast.request.scheduled:
        return _scheduled_key(symbol, interval, forecast.provenance.origin), forecast.last_open_time_ms
    return _adhoc_key(symbol, interval), forecast.created_at.timestamp()


def _indexes(symbol: str, interval: Interval) -> list[str]:
    return [_adhoc_key(symbol, interval), *(_scheduled_key(symbol, interval, origin) for origin in ORIGINS)]


def _forecast_key(forecast_id: str) -> str:
    return f"kronos:forecast:{forecast_id}"


def _adhoc_key(symbol: str, interval: Interval) -> str:
    return f"kronos:adhoc:{symbol}:{interval}"


def _scheduled_key(symbol: str, interval: Interval, origin: Origin) -> str:
    return f"kronos:scheduled:{symbol}:{interval}:{origin}"
