"""The ledger: what became of each scheduled forecast, written once when its candles have closed, and kept for ever.

The only room that knows these keys and their encoding. An entry of 24 steps takes about 1.1 KB, so that an hourly
series takes about 10 MB a year.

    kronos:ledger:<symbol>:<interval>:<book>          hash forecast id -> LedgerEntry (zlib of JSON)
    kronos:ledger-order:<symbol>:<interval>:<book>    sorted set of those ids by the candle that they follow
    kronos:ledger-makers:<symbol>:<interval>:<book>   hash forecast id -> forecaster, to find those of one without reading all

Live, recorded and simulated series have a book each, and never mix. What a backtest scored on candles that were fetched from a
venue has a book of its own beside the live one; on a file's candles it is a record of a recording, and stands with those.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Any, Literal, cast

from pydantic import Field, ValidationError, ValidationInfo, model_validator
from redis import Redis

from shared.contract import Contract
from shared.forecasts import completed_forecaster
from shared.klines import IngestedOrigin, Interval, Origin
from shared.logs import get_logger
from shared.redis_connection import redis_errors_translated
from shared.redis_questions import Question, ask_together

# Writes an entry unless there is one: a forecast is scored once, whoever is second.
_APPEND = """
if redis.call('HSETNX', KEYS[1], ARGV[1], ARGV[2]) == 0 then return 0 end
redis.call('ZADD', KEYS[2], ARGV[3], ARGV[1])
redis.call('HSET', KEYS[3], ARGV[1], ARGV[4])
return 1
"""

log = get_logger(__name__)

Book = Origin | Literal["backtest"]
ShownBook = IngestedOrigin | Literal["backtest"]  # those that anything is ever written to
SHOWN_BOOKS: tuple[ShownBook, ...] = ("live", "recorded", "simulated", "backtest")

Steps = list[float | None]  # one for each step of the horizon; none where its candle is missing


class BandScore(Contract):
    """How one band of the close did."""

    level: int = Field(description="percent")
    covered: list[bool | None] = Field(description="whether the close lay within, at each step")
    interval_score: float = Field(description="mean over the steps, in 1e-4 of the last close")

    @property
    def share(self) -> float:
        """Of the steps whose candle is known, how many the band held."""
        known = [step for step in self.covered if step is not None]
        return sum(known) / len(known)


class EventScore(Contract):
    """A probability, and whether what it spoke of happened; the Brier score is the square of the difference."""

    probability: float
    happened: bool

    @property
    def brier(self) -> float:
        return (self.probability - self.happened) ** 2


class BaselineScore(Contract):
    """How a baseline did at the same moment."""

    crps: float = Field(description="mean over the steps, in 1e-4 of the last close")
    covered: dict[int, float] = Field(description="share of the steps within its band, by level")
    upside: EventScore | None


class RecalibratedScores(Contract):
    """How the recalibrated bands and probabilities did beside the raw ones."""

    bands: list[BandScore]
    upside: EventScore | None
    volatility_amplification: EventScore | None


class Scores(Contract):
    """What a forecast's scores were; errors in 1e-4 of the last close, so that coins and years compare."""

    crps: float = Field(description="fair CRPS of the close, mean over the steps")
    crps_by_step: Steps
    error_of_mean: float = Field(description="absolute error of the mean, mean over the steps")
    error_of_median: float
    bands: list[BandScore]
    pit: Steps = Field(description="rank of the close among the paths, 0 to 1")
    position: Steps = Field(
        description="log distance of the close from the median, in the forecast's unit of spread; what recalibration "
        "learns from"
    )
    upside: EventScore | None = Field(description="none where the last candle is missing")
    volatility_amplification: EventScore | None = Field(description="none where a candle is missing or there is none")
    baselines: dict[str, BaselineScore]
    recalibrated: RecalibratedScores | None = Field(description="none where the forecast was not recalibrated")


class LedgerEntry(Contract):
    """One forecast and what became of it."""

    forecast_id: str
    symbol: str
    interval: Interval
    venue: str
    origin: Origin
    made_for: Literal["schedule", "backtest"]
    last_open_time_ms: int = Field(description="open time of the last candle that was known, UTC ms")
    last_close: float
    horizon: int
    history: int
    num_samples: int
    temperature: float
    top_p: float
    top_k: int
    model: str
    model_sha256: str = Field(description="the head of the weights' hash")
    dtype: str | None = Field(None, description="of the model's products; none in entries from before it was noted")
    forecaster: str = Field(
        description="the same for forecasts of the same weights, horizon, sampling, history and paths, int8 apart from others"
    )
    seen_in_training: bool = Field(description="whether the model may have been trained on what followed")
    scored_at_ms: int = Field(description="UTC ms")
    closes: Steps = Field(description="what happened: the close of each step, of the forecast's own venue")
    revised: bool = Field(description="whether the venue has changed the last known candle since")
    problem: str | None = Field(description="what is missing or why it could not be scored, in one sentence")
    scores: Scores | None = Field(description="none where no candle of its venue could be had")

    @model_validator(mode="before")
    @classmethod
    def _complete_forecaster(cls, stored: Any, info: ValidationInfo) -> Any:
        """Stored before dtype was noted, its forecaster named weights, horizon and sampling alone."""
        if info.mode == "json" and isinstance(stored, dict) and "dtype" not in stored:
            try:
                first, history, paths = stored["forecaster"], int(stored["history"]), str(int(stored["num_samples"]))
            except (KeyError, TypeError, ValueError):
                return stored  # its own fields say what is wrong
            return {**stored, "forecaster": completed_forecaster(str(first), history, paths)}
        return stored


def book_of(entry: LedgerEntry) -> Book:
    """Where an entry stands."""
    return "backtest" if entry.made_for == "backtest" and entry.origin == "live" else entry.origin


class Ledger:
    """Of all series; entries are added and never changed."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._append = redis.register_script(_APPEND)

    @redis_errors_translated()
    def add(self, entry: LedgerEntry) -> bool:
        """Write an entry; False, and nothing is written, where that forecast has one already."""
        keys = _keys(entry.symbol, entry.interval, book_of(entry))
        packed = zlib.compress(entry.model_dump_json().encode(), 9)
        return bool(
            self._append(keys=keys, args=[entry.forecast_id, packed, entry.last_open_time_ms, entry.forecaster])
        )

    @redis_errors_translated()
    def missing(self, symbol: str, interval: Interval, book: Book, forecast_ids: Sequence[str]) -> list[str]:
        """Those of the forecasts that have no entry, in their order."""
        if not forecast_ids:
            return []
        order = _keys(symbol, interval, book)[1]
        with self._redis.pipeline(transaction=False) as pipe:
            for forecast_id in forecast_ids:
                pipe.zscore(order, forecast_id)
            known = pipe.execute()
        return [one for one, score in zip(forecast_ids, known, strict=True) if score is None]

    @redis_errors_translated()
    def entries(
        self,
        symbol: str,
        interval: Interval,
        book: Book,
        *,
        from_ms: int = 0,
        until_ms: int | None = None,
        newest: int | None = None,
    ) -> list[LedgerEntry]:
        """Those that follow a candle which opened from `from_ms` on and before `until_ms` (UTC ms), at most the `newest` of
        them, oldest first.
        """
        order = _keys(symbol, interval, book)[1]
        end = "+inf" if until_ms is None else f"({until_ms}"
        ids = cast(
            "list[bytes]", self._redis.zrange(order, end, from_ms, desc=True, byscore=True, offset=0, num=newest or -1)
        )[::-1]
        return self._load(symbol, interval, book, ids)

    @redis_errors_translated()
    def newest_of_each(self, symbol: str, interval: Interval, book: Book, at_most: int) -> dict[str, list[LedgerEntry]]:
        """By forecaster, the newest entries of each, oldest first: however many of others lie between."""
        _, order, makers = _keys(symbol, interval, book)
        ids = cast("list[bytes]", self._redis.zrange(order, 0, -1))
        if not ids:
            return {}
        named = dict(
            zip(ids, cast("list[bytes | None]", self._redis.hmget(makers, cast("list[Any]", ids))), strict=True)
        )
        if unnamed := [
            one for one, maker in named.items() if maker is None
        ]:  # another version did not note whose they are
            noted = {one.forecast_id: one.forecaster for one in self._load(symbol, interval, book, unnamed)}
            if noted:
                self._redis.hset(makers, mapping=cast("Any", noted))
            named |= {one: noted[one.decode()].encode() for one in unnamed if one.decode() in noted}
        groups: dict[str, list[bytes]] = {}
        for one, maker in named.items():
            if maker is not None:
                groups.setdefault(maker.decode(), []).append(one)
        return {maker: self._load(symbol, interval, book, own[-at_most:]) for maker, own in groups.items()}

    def _load(self, symbol: str, interval: Interval, book: Book, ids: Sequence[bytes]) -> list[LedgerEntry]:
        """In the order of the ids; those that cannot be read are left out."""
        entries = _keys(symbol, interval, book)[0]
        packed = cast("list[bytes | None]", self._redis.hmget(entries, cast("list[Any]", ids))) if ids else []
        found = (_read(forecast_id, raw) for forecast_id, raw in zip(ids, packed, strict=True))
        return [entry for entry in found if entry is not None]

    @redis_errors_translated()
    def entry(self, symbol: str, interval: Interval, book: Book, forecast_id: str) -> LedgerEntry | None:
        """That of one forecast; None where it has none."""
        entries = _keys(symbol, interval, book)[0]
        return _read(forecast_id.encode(), cast("bytes | None", self._redis.hget(entries, forecast_id)))

    @redis_errors_translated()
    def version(self, symbol: str, interval: Interval, book: Book) -> tuple[int, str]:
        """How many entries there are, and the id of the newest: another one where anything was added."""
        question = self.version_question(symbol, interval, book)
        return ask_together(self._redis, question)[question]

    def version_question(self, symbol: str, interval: Interval, book: Book) -> Question[tuple[int, str]]:
        """The same, to be asked together with others."""

        def read(replies: list[Any]) -> tuple[int, str]:
            count, newest = replies
            return count, newest[0].decode() if newest else ""

        order = _keys(symbol, interval, book)[1]
        return Question((("ZCARD", order), ("ZRANGE", order, -1, -1)), read)


def _read(forecast_id: bytes, packed: bytes | None) -> LedgerEntry | None:
    """An entry, or None where another version wrote what this one cannot read."""
    if packed is None:
        return None
    try:
        return LedgerEntry.model_validate_json(zlib.decompress(packed))
    except ValidationError as error:
        log.warning("entry_of_another_version", forecast=forecast_id.decode(), problems=error.error_count())
        return None


def _keys(symbol: str, interval: Interval, book: Book) -> tuple[str, str, str]:
    series = f"{symbol}:{interval}:{book}"
    return f"kronos:ledger:{series}", f"kronos:ledger-order:{series}", f"kronos:ledger-makers:{series}"
