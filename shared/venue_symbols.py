"""What each venue trades, as it has told ingest: so that a mistyped symbol is refused at once.

    kronos:symbols:<venue>    JSON list of symbols, kept for two days

A list that is not there says nothing: then only a fetch can tell whether a symbol exists.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from difflib import get_close_matches
from typing import cast

from redis import Redis

from shared.redis_connection import redis_errors_translated

KEPT_S = 172_800


class VenueSymbols:
    """The lists of symbols, by the venues' names."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    @redis_errors_translated()
    def save(self, venue: str, symbols: Collection[str]) -> None:
        self._redis.set(_key(venue), json.dumps(sorted(symbols)), ex=KEPT_S)

    @redis_errors_translated()
    def known(self, venues: Sequence[str]) -> dict[str, frozenset[str]]:
        """The lists of these venues, as far as they are there."""
        stored = cast("list[bytes | None]", self._redis.mget([_key(venue) for venue in venues]))
        return {venue: frozenset(json.loads(one)) for venue, one in zip(venues, stored, strict=True) if one}


def is_untraded(symbol: str, venues: Sequence[str], known: dict[str, frozenset[str]]) -> bool:
    """Whether all of these venues have said what they trade, and that symbol is not among it."""
    return all(venue in known and symbol not in known[venue] for venue in venues)


def describe_untraded(symbol: str, venues: Sequence[str], known: dict[str, frozenset[str]]) -> str:
    """One sentence for whoever asks for a symbol that no venue trades, with those that are written nearly alike."""
    near = get_close_matches(symbol, sorted(frozenset[str]().union(*known.values())), n=3, cutoff=0.75)
    alike = f"; nearly alike are {', '.join(near)}" if near else ""
    return (
        f"{symbol} is traded at none of the venues that are asked ({', '.join(venues)}): write it as Binance does, as in "
        f"BTCUSDT{alike}."
    )


def _key(venue: str) -> str:
    return f"kronos:symbols:{venue}"
