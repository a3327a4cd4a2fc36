"""What alerts have told and have still to deliver, in Redis: so a restart forgets nothing, and of several that watch one tells.

The only room that knows these keys. A subject is a series, as BTCUSDT:1h, or `workers`. Times that decide anything are those of
Redis' own clock.

    kronos:alerts:told:<rule>:<subject>     the candle (UTC ms) of the newest forecast that the rule held for
    kronos:alerts:begun:<rule>:<subject>    the moment (UTC ms) at which somebody was told that a rule of the system holds
    kronos:alerts:quiet:<rule>:<subject>    empty, for as long as the rule cools down
    kronos:alerts:outbox:<channel>          sorted set of messages by when to try them next: the moment, a space, JSON
    kronos:alerts:watchers                  sorted set of the hosts that watch, by their last sign of life
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

from redis import Redis

from shared.contract import Contract
from shared.queue_overview import SILENT_AFTER_S
from shared.redis_connection import redis_errors_translated

KEPT_S = 30 * 86_400  # what was told of a series that no rule looks at any more
BEGUN_KEPT_S = 7 * 86_400  # since it was last seen to hold
UNDELIVERED_KEPT_S = 2 * 86_400
LEASE_S = 60  # that who has taken a message may take to deliver it before another may
FIRST_PAUSE_S, LONGEST_PAUSE_S = 2.0, 300.0  # between two tries: as long as the message has waited already
GIVEN_UP_AFTER_S = 86_400.0

_NOW = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
"""
# Puts a message into the outboxes from KEYS[first] on.
_POST = """
local function post(first, message, kept)
  for place = first, #KEYS do
    redis.call('ZADD', KEYS[place], now, string.format('%.0f', now) .. ' ' .. message)
    redis.call('EXPIRE', KEYS[place], kept)
  end
end
local function cooled(key, seconds)
  return tonumber(seconds) == 0 or redis.call('SET', key, '', 'NX', 'EX', seconds)
end
"""
# told, quiet, outboxes; candle, cool-down, message, kept, undelivered kept
_TELL_OF_FORECAST = f"""{_NOW}{_POST}
local told = redis.call('GET', KEYS[1])
if told and tonumber(told) >= tonumber(ARGV[1]) then return 'known' end
redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[4])
if not cooled(KEYS[2], ARGV[2]) then return 'cooling down' end
post(3, ARGV[3], ARGV[5])
return 'told'
"""
# begun, quiet, outboxes; moment, cool-down, message, kept, undelivered kept
_BEGIN = f"""{_NOW}{_POST}
if redis.call('EXPIRE', KEYS[1], ARGV[4]) == 1 then return 'known' end
if not cooled(KEYS[2], ARGV[2]) then return 'cooling down' end
redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[4])
post(3, ARGV[3], ARGV[5])
return 'told'
"""
# begun, outboxes; message, undelivered kept
_END = f"""{_NOW}{_POST}
if redis.call('DEL', KEYS[1]) == 0 then return 'known' end
post(2, ARGV[1], ARGV[2])
return 'told'
"""
# The message that has been due for longest, which nobody else takes before its lease is over; and for how long it has waited.
_TAKE = f"""{_NOW}
local due = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, 1)[1]
if not due then return {{}} end
redis.call('ZADD', KEYS[1], now + ARGV[1], due)
return {{due, now - tonumber(string.match(due, '^%d+'))}}
"""
_PUT_OFF = f"""{_NOW}
return redis.call('ZADD', KEYS[1], 'XX', now + ARGV[2], ARGV[1])
"""
_HEARD = f"""{_NOW}
redis.call('ZADD', KEYS[1], now, ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - 86400000)
return now
"""
_WATCHERS = f"""{_NOW}
local found = {{}}
for _, host in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1)) do
  found[#found + 1] = {{host, now - redis.call('ZSCORE', KEYS[1], host)}}
end
return found
"""

Told = Literal["told", "known", "cooling down"]


class Message(Contract):
    """One message in plain words, the same for every channel."""

    kind: Literal["alert", "over", "test"]
    title: str
    body: str


@dataclass(frozen=True)
class Parcel:
    """A message on its way to one channel, and for how long it has waited."""

    raw: bytes
    message: Message
    waited_s: float

    @property
    def given_up(self) -> bool:
        return self.waited_s > GIVEN_UP_AFTER_S

    @property
    def pause_s(self) -> float:
        """Until the next try, should this one fail."""
        return min(max(self.waited_s, FIRST_PAUSE_S), LONGEST_PAUSE_S)


@dataclass(frozen=True)
class Watcher:
    """A host on which alerts are watched for."""

    host: str
    heartbeat_age_s: float

    @property
    def name(self) -> str:
        return "kronos-live alerts run"

    @property
    def silent(self) -> bool:
        return self.heartbeat_age_s > SILENT_AFTER_S


class AlertStore:
    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    @redis_errors_translated()
    def tell_of_forecast(
        self, rule: str, subject: str, candle_ms: int, cool_down_s: int, message: Message, channels: Sequence[str]
    ) -> Told:
        """Post a message of the forecast after a candle, unless that or a newer one was told of, or the rule cools down."""
        keys = [_key("told", rule, subject), _key("quiet", rule, subject), *map(_outbox, channels)]
        args = [candle_ms, cool_down_s, message.model_dump_json(), KEPT_S, UNDELIVERED_KEPT_S]
        return self._run(_TELL_OF_FORECAST, keys, args)

    @redis_errors_translated()
    def begin(
        self, rule: str, subject: str, now_ms: int, cool_down_s: int, message: Message, channels: Sequence[str]
    ) -> Told:
        """Post that a rule of the system holds, unless that was told already and is not over, or the rule cools down."""
        keys = [_key("begun", rule, subject), _key("quiet", rule, subject), *map(_outbox, channels)]
        args = [now_ms, cool_down_s, message.model_dump_json(), BEGUN_KEPT_S, UNDELIVERED_KEPT_S]
        return self._run(_BEGIN, keys, args)

    @redis_errors_translated()
    def end(self, rule: str, subject: str, message: Message, channels: Sequence[str]) -> Told:
        """Post that it is over, unless somebody else has."""
        keys = [_key("begun", rule, subject), *map(_outbox, channels)]
        return self._run(_END, keys, [message.model_dump_json(), UNDELIVERED_KEPT_S])

    @redis_errors_translated()
    def begun(self, of: Collection[tuple[str, str]]) -> dict[tuple[str, str], int]:
        """Of pairs of a rule and a subject, those that were told of and are not over, with the moment (UTC ms)."""
        if not of:
            return {}
        found = cast("list[bytes | None]", self._redis.mget([_key("begun", *one) for one in of]))
        return {one: int(moment) for one, moment in zip(of, found, strict=True) if moment is not None}

    @redis_errors_translated()
    def take(self, channel: str) -> Parcel | None:
        """The message that should be tried now; who takes it says what came of it, else it is tried again."""
        found = cast("list[Any]", self._redis.eval(_TAKE, 1, _outbox(channel), LEASE_S * 1000))
        if not found:
            return None
        raw, waited_ms = found
        return Parcel(raw, Message.model_validate_json(raw.partition(b" ")[2]), waited_ms / 1000)

    @redis_errors_translated()
    def delivered(self, channel: str, parcel: Parcel) -> None:
        self._redis.zrem(_outbox(channel), parcel.raw)

    @redis_errors_translated()
    def put_off(self, channel: str, parcel: Parcel) -> None:
        """Let it be tried again after its pause."""
        self._redis.eval(_PUT_OFF, 1, _outbox(channel), parcel.raw, round(parcel.pause_s * 1000))

    @redis_errors_translated()
    def give_sign_of_life(self, host: str) -> None:
        self._redis.eval(_HEARD, 1, _WATCHERS_KEY, host)

    @redis_errors_translated()
    def watchers(self) -> list[Watcher]:
        """Those that were heard of within a day."""
        found = cast("list[Any]", self._redis.eval(_WATCHERS, 1, _WATCHERS_KEY))
        return [Watcher(host.decode(), age_ms / 1000) for host, age_ms in found]

    def _run(self, script: str, keys: list[str], args: list[Any]) -> Told:
        return cast("Told", cast("bytes", self._redis.eval(script, len(keys), *keys, *args)).decode())


_WATCHERS_KEY = "kronos:alerts:watchers"


def _key(what: str, rule: str, subject: str) -> str:
    return f"kronos:alerts:{what}:{rule}:{subject}"


def _outbox(channel: str) -> str:
    return f"kronos:alerts:outbox:{channel}"
