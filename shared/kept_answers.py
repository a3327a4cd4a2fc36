"""Answers kept for whoever asks the same thing twice by accident: what the header Idempotency-Key stands for.

Knows keys, fingerprints and answers as plain values; not what was asked, and no HTTP.

    kronos:answer:<sha256 of the key>    KeptAnswer (JSON), for a day; while the first request is at work, without answer
"""

from __future__ import annotations

import hashlib
from typing import cast

from redis import Redis

from shared.contract import Contract
from shared.errors import RequestError, StillAnsweringError
from shared.redis_connection import redis_errors_translated

KEPT_S = 86_400
LONGEST_WORK_S = 30  # what a server that was killed at work has left behind is forgotten after that


class Answer(Contract):
    status: int
    body: str
    headers: dict[str, str]


class KeptAnswer(Contract):
    """`fingerprint` is of the request, so that a key that comes with another one is noticed."""

    fingerprint: str
    answer: Answer | None


class KeptAnswers:
    """The answers that were given under a key."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    @redis_errors_translated()
    def find_or_begin(self, key: str, fingerprint: str) -> Answer | None:
        """The answer to this very request; None where it is now the caller's to give, and to `keep` or `forget`.

        Raises RequestError where the key came with another request, StillAnsweringError where the first one is at work.
        """
        begun = KeptAnswer(fingerprint=fingerprint, answer=None)
        if self._redis.set(_name(key), begun.model_dump_json(), nx=True, ex=LONGEST_WORK_S):
            return None
        found = cast("bytes | None", self._redis.get(_name(key)))
        kept = KeptAnswer.model_validate_json(found) if found else begun  # else it has come to nothing this very moment
        if kept.fingerprint != fingerprint:
            raise RequestError(
                "This Idempotency-Key came with another request within the last day; send a new key with a new request.",
                field="Idempotency-Key",
            )
        if kept.answer is None:
            raise StillAnsweringError(
                "The first request with this Idempotency-Key is still being answered; send it again in a moment.",
                field="Idempotency-Key",
            )
        return kept.answer

    @redis_errors_translated()
    def keep(self, key: str, fingerprint: str, answer: Answer) -> None:
        """Keep the answer to what was begun, for a day from now."""
        kept = KeptAnswer(fingerprint=fingerprint, answer=answer)
        self._redis.set(_name(key), kept.model_dump_json(), ex=KEPT_S)

    @redis_errors_translated()
    def forget(self, key: str) -> None:
        """Nothing came of what was begun, so the same request may be made anew."""
        self._redis.delete(_name(key))


def _name(key: str) -> str:
    """A key is anything that a client thinks of, so it is not written into Redis' names as it is."""
    return f"kronos:answer:{hashlib.sha256(key.encode()).hexdigest()}"
