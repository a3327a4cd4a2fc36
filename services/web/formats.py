"""Shares and spans of time as people read them on the page. Pure."""

from __future__ import annotations

import math

from shared.forecasts import Forecast, Probability
from shared.prices import NO_NUMBER

MINUTE_MS, HOUR_MS, DAY_MS = 60_000, 3_600_000, 86_400_000


def percent(share: float) -> str:
    """0.4667 -> 46.7 %"""
    return f"{share * 100:.1f}\u00a0%"


def fine_percent(share: float) -> str:
    """0.0031 -> 0.31 %"""
    return f"{share * 100:.2f}\u00a0%"


def signed_percent(share: float) -> str:
    """0.0123 -> +1.23 %, with a real minus sign."""
    if not math.isfinite(share):
        return NO_NUMBER
    return f"{share * 100:+.2f}\u00a0%".replace("-", "−")


def error_interval(share: Probability) -> str:
    """The Wilson interval of a share of paths: 30–64 %, with a decimal where it is close to 0 or 1."""
    low, high = share.lower * 100, share.upper * 100
    digits = 0 if low >= 1 and high <= 99 else 1
    return f"{low:.{digits}f}–{high:.{digits}f}\u00a0%"


def return_interval(lower: float, upper: float) -> str:
    """−0.10 to +0.54 %, as a return and its error are written."""
    return f"{signed_percent(lower).removesuffix(chr(0xA0) + '%')} – {signed_percent(upper)}"


def span(milliseconds: int) -> str:
    """A length of time in its largest whole unit: 24 h, 90 min, 14 d."""
    number, unit = whole_unit(milliseconds)
    return f"{number}\u00a0{unit}"


def whole_unit(milliseconds: int) -> tuple[int, str]:
    """The number and the unit (d, h or min) in which a length of time is told."""
    for unit_ms, unit in ((DAY_MS, "d"), (HOUR_MS, "h")):
        if milliseconds % unit_ms == 0 and milliseconds > unit_ms:
            return milliseconds // unit_ms, unit
    return (milliseconds // MINUTE_MS, "min") if milliseconds % HOUR_MS else (milliseconds // HOUR_MS, "h")


def expected_return(forecast: Forecast) -> float:
    """The mean path's last close against the last known close, as a share."""
    return forecast.close.mean[-1] / forecast.last_close - 1
