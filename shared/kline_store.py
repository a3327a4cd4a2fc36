"""Snapshots of klines and the state of each series, in Redis.

The only room that knows these keys, their encoding and how long they are kept. A snapshot is content-addressed: its id
is the head of its content hash, so the same candles are stored once.

    kronos:snapshot:<id>                       hash: meta (JSON), open_times, values (zlib of little-endian rows)
    kronos:snapshots:<symbol>:<interval>       sorted set of ids by the time of storing: retention
    kronos:closed:<symbol>:<interval>:<venue>:<origin>    sorted set of ids by their last candle: what followed a candle
    kronos:series                              hash <symbol>:<interval> -> SeriesStatus (JSON)
"""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, cast

import numpy as np
from numpy.typing import NDArray
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
WINDOWS_REMEMBERED = 16  # decoded ones; a snapshot never changes, so whoever reads its bytes again need not check them
NAMED_AT_MOST = 20  # series in a sentence
FIRST_LOOKED_AT = 8  # snapshots that end soonest after a candle, of which one has it unless the venue never told it

SeriesState = Literal["live", "recorded", "simulated", "stale"]

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

    @property
    def first_open_time_ms(self) -> int:
        return self.last_open_time_ms - (self.count - 1) * self.interval.ms  # a window has no gap


@dataclass(frozen=True, eq=False)
class Followed:
    """Candles that followed another one, as far as they are kept: ascending, but there may be gaps between them.

    `open_times_ms` is (n,) in UTC ms, `values` is (n, 6) in the order of COLUMNS.
    """

    open_times_ms: NDArray[np.int64]
    values: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.open_times_ms)


class SeriesStatus(Contract):
    """How it stands with one ingested series; `state` stale means that no new candle could be had when one was due."""

    symbol: str
    interval: Interval
    state: SeriesState
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
        meta = _meta_of(window)
        snapshot_id = meta.sha256[:ID_LENGTH]
        index = _index_key(window.symbol, window.interval)
        with self._redis.pipeline(transaction=True) as pipe:
            pipe.hset(_snapshot_key(snapshot_id), mapping=pack_window(window, meta))
            pipe.zadd(index, {snapshot_id: time.time()})
            pipe.zadd(_closed_key(meta), {snapshot_id: meta.last_open_time_ms})
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
        return unpack_window(fields)

    @redis_errors_translated()
    def followed(
        self, symbol: str, interval: Interval, venue: str, origin: Origin, after_ms: int, count: int
    ) -> Followed:
        """Of the `count` candles after the one that opened at `after_ms` (UTC ms), those that are kept of that very venue
        and origin. A closed candle does not change, so any snapshot that has it will do.
        """
        index = _closed_index(symbol, interval, venue, origin)
        found: dict[int, NDArray[np.float64]] = {}
        wanted_ms = after_ms + count * interval.ms  # from the last one back: a snapshot holds what went before its end
        while wanted_ms > after_ms and (meta := self._reaching_back_from(index, wanted_ms, after_ms)):
            try:
                window = self.load(meta.sha256[:ID_LENGTH])
            except NotFoundError:  # retention was faster
                break
            of_use = (window.open_times_ms > after_ms) & (window.open_times_ms <= wanted_ms)
            found |= zip(window.open_times_ms[of_use].tolist(), window.values[of_use], strict=True)
            wanted_ms = meta.first_open_time_ms - interval.ms
        times = sorted(found)
        rows = [found[time] for time in times]
        return Followed(np.array(times, dtype=np.int64), np.array(rows, dtype=np.float64).reshape(-1, len(COLUMNS)))

    def _reaching_back_from(self, index: str, wanted_ms: int, after_ms: int) -> SnapshotMeta | None:
        """The snapshot that has the candle at `wanted_ms` and most of what went before it; else the newest before that
        which has any after `after_ms`.
        """
        with self._redis.pipeline(transaction=False) as pipe:
            pipe.zrangebyscore(index, wanted_ms, "+inf", start=0, num=FIRST_LOOKED_AT)
            pipe.zrevrangebyscore(index, f"({wanted_ms}", f"({after_ms}", start=0, num=1)
            ended_later, ended_before = cast("list[list[bytes]]", pipe.execute())
        later = [one for one in self._metas(ended_later) if one.first_open_time_ms <= wanted_ms]
        return next(iter([*later, *self._metas(ended_before)]), None)

    def _metas(self, snapshot_ids: Sequence[bytes]) -> list[SnapshotMeta]:
        """Of those that are there."""
        with self._redis.pipeline(transaction=False) as pipe:
            for one in snapshot_ids:
                pipe.hget(_snapshot_key(one.decode()), "meta")
            return [SnapshotMeta.model_validate_json(raw) for raw in pipe.execute() if raw is not None]

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
            metas = self._metas(surplus)
            with self._redis.pipeline(transaction=True) as pipe:
                pipe.delete(*(_snapshot_key(snapshot.decode()) for snapshot in surplus))
                pipe.zrem(index, *surplus)
                for meta in metas:
                    pipe.zrem(_closed_key(meta), meta.sha256[:ID_LENGTH])
                pipe.execute()


def pack_window(window: KlineWindow, meta: SnapshotMeta | None = None) -> dict[Any, str | bytes]:
    """A window as the fields of a hash in Redis."""
    return {
        "meta": (meta or _meta_of(window)).model_dump_json(),
        "open_times": zlib.compress(window.open_times_ms.astype("<i8").tobytes()),
        "values": zlib.compress(window.values.astype("<f8").tobytes()),
    }


def unpack_window(fields: Mapping[bytes, bytes]) -> KlineWindow:
    """What `pack_window` made, as Redis gives it back. Raises KlineError where its content is not what it was."""
    return _decoded(fields[b"meta"], fields[b"open_times"], fields[b"values"])


def _meta_of(window: KlineWindow) -> SnapshotMeta:
    return SnapshotMeta(
        symbol=window.symbol,
        interval=window.interval,
        venue=window.venue,
        origin=window.origin,
        sha256=window.content_hash(),
        count=len(window),
        last_open_time_ms=window.last_open_time_ms,
    )


@lru_cache(maxsize=WINDOWS_REMEMBERED)
def _decoded(meta_json: bytes, open_times: bytes, values: bytes) -> KlineWindow:
    meta = SnapshotMeta.model_validate_json(meta_json)
    window = KlineWindow(
        meta.symbol,
        meta.interval,
        meta.venue,
        meta.origin,
        np.frombuffer(zlib.decompress(open_times), dtype="<i8").astype(np.int64),
        np.frombuffer(zlib.decompress(values), dtype="<f8").reshape(-1, len(COLUMNS)).astype(np.float64),
    )
    if window.content_hash() != meta.sha256:
        raise KlineError(
            f"Snapshot {meta.sha256[:ID_LENGTH]} does not have the content it was stored with; it cannot be used."
        )
    for shared in (window.open_times_ms, window.values):
        shared.flags.writeable = False  # by whoever reads the same snapshot
    return window


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
    more = f" and {len(names) - NAMED_AT_MOST} more" if len(names) > NAMED_AT_MOST else ""
    named = ", ".join(names[:NAMED_AT_MOST]) or "none yet"
    return f"{symbol} {interval} is not ingested here; these series are: {named}{more}."


def _snapshot_key(snapshot_id: str) -> str:
    return f"kronos:snapshot:{snapshot_id}"


def _index_key(symbol: str, interval: Interval) -> str:
    return f"kronos:snapshots:{symbol}:{interval}"


def _closed_key(meta: SnapshotMeta) -> str:
    return _closed_index(meta.symbol, meta.interval, meta.venue, meta.origin)


def _closed_index(symbol: str, interval: Interval, venue: str, origin: Origin) -> str:
    return f"kronos:closed:{symbol}:{interval}:{venue}:{origin}"
