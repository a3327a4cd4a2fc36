"""How a price is written for people, on the page and in the terminal alike. Pure."""

from __future__ import annotations

import math

NO_NUMBER = "not a number"


def price(value: float) -> str:
    """With as many decimals as its size asks for: 97,123.45, 0.2345, 0.00001234."""
    if not math.isfinite(value):
        return NO_NUMBER
    size = abs(value)
    decimals = 2 if size >= 10 or size == 0 else min(12, 3 - math.floor(math.log10(size)))
    return f"{value:,.{decimals}f}"
