"""The moments to forecast from in a history of klines, and what then happened.

What is known at an origin and what follows are two different things here, so that no forecast can see its outcome.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from services.inference.training.kline_files import Stretch
from shared.klines import CLOSE, Interval, KlineWindow
from shared.klines import Origin as OriginOfKlines


@dataclass(frozen=True, eq=False)
class Origin:
    """`known` are the candles up to the moment; `outcome` the closes that followed, one for each step."""

    known: KlineWindow
    outcome: NDArray[np.float64]


def find_origins(
    stretches: Sequence[Stretch],
    interval: Interval,
    *,
    from_ms: int,
    until_ms: int,
    every_ms: int,
    known: int,
    horizon: int,
    venue: str = "file",
    origin: OriginOfKlines = "recorded",
) -> Iterator[Origin]:
    """Every `every_ms` from `from_ms` on (UTC ms) a forecast whose first candle opens then and whose last closes by
    `until_ms`. Left out are those whose `known` candles or horizon an exchange outage cuts. `venue` and `origin` say where
    the candles are from.
    """
    for stretch in stretches:
        times = stretch.open_times_ms
        due = (times >= from_ms) & ((times - from_ms) % every_ms == 0) & (times + horizon * interval.ms <= until_ms)
        for at in np.flatnonzero(due).tolist():
            if known <= at <= len(stretch) - horizon:
                before = slice(at - known, at)
                window = KlineWindow(stretch.symbol, interval, venue, origin, times[before], stretch.values[before])
                yield Origin(window, stretch.values[at : at + horizon, CLOSE])
