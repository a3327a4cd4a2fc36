"""How often something happens in the paths of a forecast: an event, and its share with the Monte-Carlo error. Pure.

A path with a number that is not finite is not counted, as in all other statistics of a forecast.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shared.forecasts import Probability
from shared.klines import CLOSE, OPEN
from shared.statistics import Floats, wilson_share

Flags = NDArray[np.bool_]


PRICES = slice(OPEN, CLOSE + 1)


@dataclass(frozen=True)
class Event:
    """What may happen, in words; `happens` tells of each path in [N, steps, 6], which ends at the step asked for."""

    words: str
    happens: Callable[[Floats], Flags]


def ends_above(price: float) -> Event:
    return Event(f"closes above {price:.12g}", lambda paths: paths[:, -1, CLOSE] > price)


def ends_below(price: float) -> Event:
    return Event(f"closes below {price:.12g}", lambda paths: paths[:, -1, CLOSE] < price)


def ends_within(low: float, high: float) -> Event:
    return Event(
        f"closes from {low:.12g} to {high:.12g}",
        lambda paths: (paths[:, -1, CLOSE] >= low) & (paths[:, -1, CLOSE] <= high),
    )


def touches(price: float, last_close: float) -> Event:
    """The price is reached from where it is now: from below where it lies above the last known close, else from above.

    So a price that two candles leap over counts as reached. All four prices of a candle count, since a path's high may be
    drawn below its close; the page counts alike (static/paths.js).
    """
    if price >= last_close:
        return Event(f"reaches {price:.12g}", lambda paths: paths[:, :, PRICES].max(axis=(1, 2)) >= price)
    return Event(f"falls to {price:.12g}", lambda paths: paths[:, :, PRICES].min(axis=(1, 2)) <= price)


def returns_above(share: float, last_close: float) -> Event:
    return Event(f"returns more than {share:.12g}", lambda paths: paths[:, -1, CLOSE] / last_close - 1 > share)


def returns_below(share: float, last_close: float) -> Event:
    return Event(f"returns less than {share:.12g}", lambda paths: paths[:, -1, CLOSE] / last_close - 1 < share)


def probability(event: Event, paths: NDArray[np.float32], step: int) -> Probability | None:
    """Share of paths [N, horizon, 6] in which it happens by `step`, counted from 1; none where no path can be counted."""
    usable = usable_paths(paths)
    if not len(usable):
        return None
    share = wilson_share(int(event.happens(usable[:, :step]).sum()), len(usable))
    return Probability(value=share.value, lower=share.lower, upper=share.upper, paths=share.paths, of=share.of)


def usable_paths(paths: NDArray[np.float32]) -> Floats:
    """Those of which every number is finite, in double precision."""
    return paths[np.isfinite(paths).all(axis=(1, 2))].astype(np.float64)
