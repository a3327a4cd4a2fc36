"""How often a client may ask: counted in Redis, so that all web services count together and a restart forgets nothing.

Each client has a minute's worth at hand, which fills up again evenly as it is spent (the generic cell rate algorithm, ITU-T
I.371: of each client only the moment is kept at which all of it will be there again). Knows no HTTP.

    kronos:rate:<what>:<client>    that moment in µs of Redis' own clock, for as long as it lies ahead
"""

from __future__ import annotations

from typing import cast

from redis import Redis

from shared.redis_connection import redis_errors_translated

MINUTE_US = 60_000_000

# One round trip, and one step in Redis, so that two at once cannot both have the last one. Returns µs to wait, 0 for none.
_TAKE = """
local time = redis.call('TIME')
local now, each, all = time[1] * 1000000 + time[2], tonumber(ARGV[1]), tonumber(ARGV[2])
local full_at = math.max(now, tonumber(redis.call('GET', KEYS[1]) or '0')) + each
if full_at - all > now then return math.ceil(full_at - all - now) end
redis.call('SET', KEYS[1], string.format('%.0f', full_at), 'PX', math.ceil((full_at - now) / 1000))
return 0
"""


class RateLimits:
    """What clients have asked for lately."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    @redis_errors_translated()
    def take(self, what: str, client: str, per_minute: int) -> float:
        """Take one of the `per_minute` that a client may have: 0.0 where it is given, else the seconds until there is one."""
        each_us = MINUTE_US / per_minute
        wait_us = self._redis.eval(_TAKE, 1, f"kronos:rate:{what}:{client}", repr(each_us), MINUTE_US)
        return cast("int", wait_us) / 1e6
