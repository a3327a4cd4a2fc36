"""What forecasters of elsewhere have published, and what became of it: kept apart from every ledger of our own.

The only room that knows these keys. What was said and what came of it are each written once and never changed.

    kronos:imported:<symbol>:<interval>           hash <forecaster>|<last known candle, UTC ms> -> ImportedUpdate (JSON)
    kronos:imported-scores:<symbol>:<interval>    hash, the same fields -> ImportedScores (JSON)
    kronos:imported-waiting:<symbol>:<interval>   sorted set, the same fields by when their scoring is due (UTC ms); what has
                                                  scores, or was given up, is not in it

An update gives two probabilities and no paths, so it has neither CRPS nor bands. Nothing that learns (recalibration), watches
(drift) or counts coverage reads these keys: it reads `ledger.py`, where no imported forecast ever stands.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar, cast

from pydantic import Field, ValidationError
from redis import Redis
from redis.commands.core import Script

from shared.contract import Contract
from shared.klines import Interval
from shared.ledger import EventScore
from shared.logs import get_logger
from shared.redis_connection import redis_errors_translated

BATCH = 1000  # written in one round trip

# Writes an update unless there is one; it waits to be scored unless it is. Also one that was there before: given again, what was
# given up is tried again.
_ADD = """
local new = redis.call('HSETNX', KEYS[1], ARGV[1], ARGV[2])
if redis.call('HEXISTS', KEYS[2], ARGV[1]) == 0 then redis.call('ZADD', KEYS[3], ARGV[3], ARGV[1]) end
return new
"""
# Writes scores unless there are some: an update is scored once, whoever is second.
_ADD_SCORES = """
redis.call('ZREM', KEYS[2], ARGV[1])
return redis.call('HSETNX', KEYS[1], ARGV[1], ARGV[2])
"""

log = get_logger(__name__)

Read = TypeVar("Read", bound=Contract)


class ImportedUpdate(Contract):
    """One published forecast, and where it is from."""

    forecaster: str
    symbol: str
    interval: Interval
    horizon: int
    last_open_time_ms: int = Field(description="open time of the last candle that was known, UTC ms")
    updated_at_ms: int = Field(description="when it was made, by its own word; UTC ms")
    upside: float = Field(ge=0, le=1)
    volatility_amplification: float = Field(ge=0, le=1)
    repository: str
    commit: str = Field(description="the first that has it")
    committed_at_ms: int = Field(description="UTC ms")
    imported_at_ms: int = Field(description="UTC ms")

    @property
    def key(self) -> str:
        """One for each candle of a forecaster: the first update counts."""
        return f"{self.forecaster}|{self.last_open_time_ms}"

    @property
    def end_ms(self) -> int:
        """When the horizon's last candle has closed, UTC ms."""
        return self.last_open_time_ms + (self.horizon + 1) * self.interval.ms

    def says_the_same_as(self, other: ImportedUpdate) -> bool:
        return (self.upside, self.volatility_amplification) == (other.upside, other.volatility_amplification)


class ImportedScores(Contract):
    """What then happened, by the candles of one venue or file."""

    klines: str = Field(description="whose: a venue's name, or file and its name")
    last_close: float
    close: float = Field(description="of the horizon's last candle")
    upside: EventScore
    volatility_amplification: EventScore | None = Field(description="none where a candle before or between is missing")
    scored_at_ms: int = Field(description="UTC ms")


@dataclass(frozen=True)
class ImportedEntry:
    """What was said, and what came of it; none where nobody knows yet."""

    update: ImportedUpdate
    scores: ImportedScores | None


class ImportedLedger:
    """Of all series and imported forecasters."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._add = redis.register_script(_ADD)
        self._add_scores = redis.register_script(_ADD_SCORES)

    @redis_errors_translated()
    def add(self, symbol: str, interval: Interval, updates: Sequence[ImportedUpdate]) -> int:
        """Write those that have no entry; how many that were. All that have no scores wait for them from now on."""
        keys = [*_keys(symbol, interval), _waiting_key(symbol, interval)]
        return self._write(self._add, keys, [(one.key, one.model_dump_json(), one.end_ms) for one in updates])

    @redis_errors_translated()
    def add_scores(self, symbol: str, interval: Interval, scores: Mapping[str, ImportedScores]) -> int:
        """By the key of their update; those that have scores already keep them. How many were written."""
        keys = [_keys(symbol, interval)[1], _waiting_key(symbol, interval)]
        return self._write(self._add_scores, keys, [(key, one.model_dump_json()) for key, one in scores.items()])

    @redis_errors_translated()
    def is_due(self, symbol: str, interval: Interval, known_until_ms: int) -> bool:
        """Whether the scoring of any is due where candles are known until then (UTC ms)."""
        return bool(self._redis.zrangebyscore(_waiting_key(symbol, interval), "-inf", known_until_ms, start=0, num=1))

    @redis_errors_translated()
    def due(
        self, symbol: str, interval: Interval, known_until_ms: int, at_most: int
    ) -> dict[str, ImportedUpdate | None]:
        """Those by their key, what is due for longest first; none in place of one that another version wrote."""
        waiting = _waiting_key(symbol, interval)
        keys = cast("list[bytes]", self._redis.zrangebyscore(waiting, "-inf", known_until_ms, start=0, num=at_most))
        if not keys:
            return {}
        raws = cast("list[bytes | None]", self._redis.hmget(_keys(symbol, interval)[0], cast("list[Any]", keys)))
        return {
            key.decode(): None if raw is None else _read(ImportedUpdate, key, raw)
            for key, raw in zip(keys, raws, strict=True)
        }

    @redis_errors_translated()
    def wait_on(self, symbol: str, interval: Interval, keys: Sequence[str], due_at_ms: int) -> None:
        """Those are due again from `due_at_ms` (UTC ms) on, unless they have scores by now."""
        if keys:
            self._redis.zadd(_waiting_key(symbol, interval), dict.fromkeys(keys, due_at_ms), xx=True)

    @redis_errors_translated()
    def give_up(self, symbol: str, interval: Interval, keys: Sequence[str]) -> None:
        """Those wait no longer. They keep their place, and whoever has candles may add their scores."""
        if keys:
            self._redis.zrem(_waiting_key(symbol, interval), *keys)

    @redis_errors_translated()
    def entries(self, symbol: str, interval: Interval) -> list[ImportedEntry]:
        """Of all imported forecasters of a series, oldest first."""
        said, came = (cast("dict[bytes, bytes]", self._redis.hgetall(key)) for key in _keys(symbol, interval))
        updates = {key: _read(ImportedUpdate, key, raw) for key, raw in said.items()}
        found = [
            ImportedEntry(update, _read(ImportedScores, key, came[key]) if key in came else None)
            for key, update in updates.items()
            if update is not None
        ]
        return sorted(found, key=lambda one: (one.update.last_open_time_ms, one.update.forecaster))

    @redis_errors_translated()
    def version(self, symbol: str, interval: Interval) -> tuple[int, int]:
        """How many updates and scores there are: another one whenever any was added."""
        with self._redis.pipeline(transaction=False) as pipe:
            for key in _keys(symbol, interval):
                pipe.hlen(key)
            said, came = pipe.execute()
        return said, came

    def _write(self, script: Script, keys: Sequence[str], values: Sequence[tuple[str | int, ...]]) -> int:
        written = 0
        for start in range(0, len(values), BATCH):
            with self._redis.pipeline(transaction=False) as pipe:
                for one in values[start : start + BATCH]:
                    script(keys=keys, args=one, client=pipe)
                written += sum(pipe.execute())
        return written


def _read(kind: type[Read], key: bytes, raw: bytes) -> Read | None:
    """None where another version wrote what this one cannot read."""
    try:
        return kind.model_validate_json(raw)
    except ValidationError as error:
        log.warning("imported_entry_of_another_version", entry=key.decode(), problems=error.error_count())
        return None


def _keys(symbol: str, interval: Interval) -> tuple[str, str]:
    series = f"{symbol}:{interval}"
    return f"kronos:imported:{series}", f"kronos:imported-scores:{series}"


def _waiting_key(symbol: str, interval: Interval) -> str:
    return f"kronos:imported-waiting:{symbol}:{interval}"
