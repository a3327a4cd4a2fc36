"""What the commands that fetch past klines have in common: what is needed for it, what may be asked, and gaps in words."""

from __future__ import annotations

import re
from collections.abc import Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING

from services.cli.common import now_ms
from shared.errors import RequestError
from shared.klines import Interval, utc

if TYPE_CHECKING:  # the images of web and ingest have no inference
    from services.inference.training.kline_files import Stretch

SYMBOL = re.compile("[A-Z0-9]{2,20}")
GAPS_NAMED = 3


def require_ingest(else_do: str) -> None:
    """Raises RequestError where venues cannot be asked from here."""
    if find_spec("httpx") is None or find_spec("services.ingest") is None:
        raise RequestError(
            "Klines of a symbol are fetched with httpx and the parts of ingest, which are not installed here: pip install -e "
            f"'.[ingest]' in a checkout, {else_do}."
        )


def refuse_future(option: str, until_ms: int) -> None:
    """Where the day that an option names, which ends at a moment in UTC ms, is not over. Raises RequestError."""
    if until_ms > now_ms():
        today = utc(Interval.D1.open_time(now_ms()))[:10]
        last = utc(until_ms - Interval.D1.ms)[:10]
        raise RequestError(f"{option} {last} is not over yet: the last day must be one before {today} (UTC).")


def gaps_between(
    stretches: Sequence[Stretch], interval: Interval, from_ms: int, until_ms: int
) -> list[tuple[int, int]]:
    """Where candles are missing between two moments: the first open time of each gap in UTC ms, and how many."""
    ends = [from_ms, *(time for part in stretches for time in (_first(part), _end(part, interval))), until_ms]
    return [
        (max(start, from_ms), (min(end, until_ms) - max(start, from_ms)) // interval.ms)
        for start, end in zip(ends[::2], ends[1::2], strict=True)
        if min(end, until_ms) - max(start, from_ms) >= interval.ms
    ]


def gaps_in_words(gaps: Sequence[tuple[int, int]], where: str) -> str | None:
    """How many candles are missing, where, and from when; None where all are there. Without a full stop."""
    if not gaps:
        return None
    named = [f"{count} from {utc(start)}" for start, count in gaps[:GAPS_NAMED]]
    more = f"; and {len(gaps) - GAPS_NAMED} more gaps" if len(gaps) > GAPS_NAMED else ""
    return f"{sum(count for _, count in gaps)} candles are missing {where} ({'; '.join(named)}{more})"


def _first(part: Stretch) -> int:
    return int(part.open_times_ms[0])


def _end(part: Stretch, interval: Interval) -> int:
    return int(part.open_times_ms[-1]) + interval.ms
