"""Questions to Redis that are asked together: all of their commands go in one round trip.

Each store makes its own questions, since it alone knows its keys, and reads the replies; who asks them together knows
neither. Nothing here depends on an earlier reply, so what does is asked a second time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from redis import Redis

from shared.redis_connection import redis_errors_translated

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Question(Generic[T]):
    """Commands for Redis, and what their replies say."""

    commands: tuple[tuple[Any, ...], ...]
    read: Callable[[list[Any]], T]


class Answers:
    """What was answered, by its question."""

    def __init__(self, replies: dict[Question[Any], list[Any]]) -> None:
        self._replies = replies

    def __getitem__(self, question: Question[T]) -> T:
        return question.read(self._replies[question])


@redis_errors_translated()
def ask_together(redis: Redis, *questions: Question[Any]) -> Answers:
    """Ask all of them in one round trip. Raises StoreUnavailableError."""
    with redis.pipeline(transaction=False) as pipe:
        for question in questions:
            for command in question.commands:
                pipe.execute_command(*command)  # type: ignore[no-untyped-call]
        replies = iter(pipe.execute())
    return Answers({question: [next(replies) for _ in question.commands] for question in questions})
