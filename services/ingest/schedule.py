"""When candles close and are fetched: pure arithmetic on UTC milliseconds.

Every interval divides a UTC day, so months, leap years and daylight saving do not exist here. Knows no clock: the
moment is handed in.
"""

from __future__ import annotations

from shared.klines import Interval


def due_open_time(interval: Interval, now_ms: int) -> int:
    """Open time (UTC ms) of the newest candle that has closed at `now_ms`."""
    return interval.open_time(now_ms) - interval.ms


def next_fetch_time(interval: Interval, now_ms: int, settle_seconds: float) -> int:
    """The first moment (UTC ms) after `now_ms` that lies `settle_seconds` after a close: hourly, HH:00:05."""
    settle_ms = round(settle_seconds * 1000)
    return interval.open_time(now_ms - settle_ms) + interval.ms + settle_ms
