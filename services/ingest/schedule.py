"""When candles close and are fetched: pure arithmetic on UTC milliseconds.

Every interval divides a UTC day, so months, leap years and daylight saving do not exist here. Knows no clock: the
moment is handed in.
"""

from __future__ import annotations

from collections.abc import Sequence

from shared.klines import Interval
from shared.settings import Series


def due_open_time(interval: Interval, now_ms: int) -> int:
    """Open time (UTC ms) of the newest candle that has closed at `now_ms`."""
    return interval.open_time(now_ms) - interval.ms


def settle_seconds_of(all_series: Sequence[Series], settle_seconds: float, apart_s: float) -> dict[Series, float]:
    """How long after each close every series is fetched, in the order in which they are: `apart_s` (seconds) after one another,
    from `settle_seconds` on.

    Many candles close at one moment, and no venue answers for thousands at once. Short intervals go first, since they are
    then all that have closed, most of the time. No series' moment lies beyond its next close; where there are more of them
    than an interval has room for, they share moments, and whoever asks has to wait.
    """
    by_interval = sorted(all_series, key=lambda one: one.interval.ms)
    room_s = {one.interval: max(one.interval.ms / 1000 - settle_seconds, 1.0) for one in by_interval}
    return {one: settle_seconds + place * apart_s % room_s[one.interval] for place, one in enumerate(by_interval)}


def next_fetch_time(interval: Interval, now_ms: int, settle_seconds: float) -> int:
    """The first moment (UTC ms) after `now_ms` that lies `settle_seconds` after a close: hourly, HH:00:05."""
    settle_ms = round(settle_seconds * 1000)
    return interval.open_time(now_ms - settle_ms) + interval.ms + settle_ms
