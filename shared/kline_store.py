"""Snapshots of klines and the state of each series, in Redis.

The only room that knows these keys, their encoding and how long they are kept. A snapshot is content-addressed: its id
is the head of its content hash, so the same candles are stored once.

    kronos:snapshot:<id>                       hash: meta (JSON), open_times, values (zlib of little-endian rows)
    kronos:snapshots:<symbol>:<interval>       sorted set of ids by the time of storing: retention
    kronos:series                              hash <symbol>:<interval> -> SeriesStatus (JSON)
"""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable
from typing import Any, Literal, cast

import numpy as np
from pydantic import ValidationError
from redis import Redis
from redis.client import Pipeline

from shared.contract import Contract
from shared.errors import KlineError, NotFoundError
from shared.klines import COLUMNS, Interval, KlineWindow, Origin
from shared.logs import get_logger
from shared.redis_connection import redis_errors_translated
from shared.redis_questions import Question, ask_together

ID_LENGTH = 16
SERIES_KEY = "kronos:series"

log = get_logger(__name__)


class SnapshotMeta(Contract):
    """What a stored window says of itself beside its rows."""

    symbol: str
    interval: Interval
    venue: str
    origin: Origin
    sha256: str
    count: int
    last_open_time_ms: int


class SeriesStatus(Contract):
    """How it stands with one ingested series; `state` stale means that no new candle could be had when one was due."""

    symbol: str
    interval: Interval
    state: Literal["live", "recorded", "simulated", "stale"]
    venue: str | None
    origin: Origin | None  # of the newest snapshot, also while stale; none where there is none yet
    snapshot_id: str | None
    last_open_time_ms: int | None
    checked_at_ms: int
    next_fetch_at_ms: int
    problem: str | None
    ever_live: bool  # once a venue has given real klines, simulated ones never continue the series


class KlineStore:
    """Saves and loads snapshots and series states; `keep` is how many snapshots stay for each series."""

    def __init__(self, redis: Redis, keep: int) -> None:
        self._redis = redis
        self._keep = keep

    @redis_errors_translated()
    def save(self, window: KlineWindow) -> str:
        """Store a window and return its snapshot id; the same content is the same snapshot."""
        sha256 = window.content_hash()
        snapshot_id = sha256[:ID_LENGTH]
        meta = SnapshotMeta(
            symbol=window.symbol,
            interval=window.interval,
            venue=window.venue,
            origin=window.origin,
            sha256=sha256,
            count=len(window),
            last_open_time_ms=window.last_open_time_ms,
        )
        index = _index_key(window.symbol, window.interval)
        with self._redis.pipeline(transaction=True) as pipe:
            pipe.hset(
                _snapshot_key(snapshot_id),
                mapping={
                    "meta": meta.model_dump_json(),
                    "open_times": zlib.compress(window.open_times_ms.astype("<i8").tobytes()),
                    "values": zlib.compress(window.values.astype("<f8").tobytes()),
                },
            )
            pipe.zadd(index, {snapshot_id: time.time()})
            pipe.execute()
        self._drop_oldest(index)
        return snapshot_id

    @redis_errors_translated()
    def load(self, snapshot_id: str) -> KlineWindow:
        """The window of a snapshot. Raises NotFoundError, or KlineError where its content is not what it was."""
        fields = cast("dict[bytes, bytes]", self._redis.hgetall(_snapshot_key(snapshot_id)))
        if not fields:
            raise NotFoundError(
                f"There is no snapshot {snapshot_id!r}: it was never stored, or retention has dropped it."
            )
        meta = SnapshotMeta.model_validate_json(fields[b"meta"])
        window = KlineWindow(
            meta.symbol,
            meta.interval,
            meta.venue,
            meta.origin,
            np.frombuffer(zlib.decompress(fields[b"open_times"]), dtype="<i8").astype(np.int64),
            np.frombuffer(zlib.decompress(fields[b"values"]), dtype="<f8").reshape(-1, len(COLUMNS)).astype(np.float64),
        )
        if window.content_hash() != meta.sha256:
            raise KlineError(f"Snapshot {snapshot_id} does not have the content it was stored with; it cannot be used.")
        return window

    @redis_errors_translated()
    def change_status(
        self, symbol: str, interval: Interval, change: Callable[[SeriesStatus | None], SeriesStatus | None]
    ) -> bool:
        """Store what `change` makes of a series' state, or leave that alone where it gives None; whether it was stored.

        Nothing that another ingest writes meanwhile is lost: `change` is then called again with what is there by now.
        """
        name = f"{symbol}:{interval}"
        changed: SeriesStatus | None = None

        def step(pipe: Pipeline) -> None:
            nonlocal changed
            raw = cast("bytes | None", pipe.hget(SERIES_KEY, name))
            changed = change(_read_status(raw) if raw else None)
            pipe.multi()
            if changed is not None:
                pipe.hset(SERIES_KEY, name, changed.model_dump_json())

        self._redis.transaction(step, SERIES_KEY)
        return changed is not None

    @redis_errors_translated()
    def status(self, symbol: str, interval: Interval) -> SeriesStatus | None:
        """The state of one series, or None where it is not ingested."""
        raw = cast("bytes | None", self._redis.hget(SERIES_KEY, f"{symbol}:{interval}"))
        return _read_status(raw) if raw else None

    @redis_errors_translated()
    def all_statuses(self) -> list[SeriesStatus]:
        """The state of every ingested series, by name."""
        question = self.statuses_question()
        return ask_together(self._redis, question)[question]

    def statuses_question(self) -> Question[list[SeriesStatus]]:
        """The same, to be asked together with others."""
        return Question((("HGETALL", SERIES_KEY),), lambda replies: _read_statuses(replies[0]))

    def _drop_oldest(self, index: str) -> None:
        """Retention: what was stored longest ago goes first, so a recording of the past stays like any other."""
        surplus = cast("list[Any]", self._redis.zrange(index, 0, -self._keep - 1))
        if surplus:
            with self._redis.pipeline(transaction=True) as pipe:
                pipe.delete(*(_snapshot_key(snapshot.decode()) for snapshot in surplus))
                pipe.zrem(index, *surplus)
                pipe.execute()


def _read_statuses(stored: dict[bytes, bytes]) -> list[SeriesStatus]:
    statuses = [_read_status(raw) for _, raw in sorted(stored.items())]
    return [status for status in statuses if status is not None]


def _read_status(raw: bytes) -> SeriesStatus | None:
    """A state, or None where another version wrote it: the next cycle of ingest writes it anew."""
    try:
        return SeriesStatus.model_validate_json(raw)
    except ValidationError as error:
        log.warning("series_state_of_another_version", problems=error.error_count())
        return None


def describe_missing_series(symbol: str, interval: Interval, known: list[SeriesStatus]) -> str:
    """One sentence for whoever asks for a series that is not ingested."""
    names = [
        f"{one.symbol} {one.interval}{' (stale)' if one.state == 'stale' else ''}" for one in known if one.snapshot_id
    ]
    return f"{symbol} {interval} is not ingested here; these series are: {', '.join(names) or 'none yet'}."


def _snapshot_key(snapshot_id: str) -> str:
    return f"kronos:snapshot:{snapshot_id}"


def _index_key(symbol: str, interval: Interval) -> str:
    return f"kronos:snapshots:{symbol}:{interval}"
