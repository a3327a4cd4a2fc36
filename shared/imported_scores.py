"""Imported updates and the candles that followed -> whether what they spoke of happened.

Knows no store. A candle counts for an update only together with others of the same venue or file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from shared.imported_ledger import ImportedScores, ImportedUpdate
from shared.ledger import EventScore
from shared.statistics import volatility_rose

RETURNS_BEFORE = 24  # that the original compares those of the horizon with


@dataclass(frozen=True)
class KnownCloses:
    """Closes by open time (UTC ms), of one venue or file that `named` names."""

    named: str
    closes: Mapping[int, float]


def score_update(update: ImportedUpdate, sources: Sequence[KnownCloses], now_ms: int) -> ImportedScores | None:
    """By the first source that knows the candles at both ends of the horizon, none where no one does; `now_ms` is UTC ms.

    Upside: the last close of the horizon lies above the last known one. Volatility amplification: the log returns of the
    horizon, the step from the last known close included, vary more than the RETURNS_BEFORE known ones before.
    """
    step, known_ms = update.interval.ms, update.last_open_time_ms
    end_ms = known_ms + update.horizon * step
    for source in sources:
        closes = source.closes
        if known_ms not in closes or end_ms not in closes:
            continue
        before = [closes.get(known_ms - place * step, np.nan) for place in range(RETURNS_BEFORE, -1, -1)]
        after = [closes.get(known_ms + place * step, np.nan) for place in range(update.horizon + 1)]
        whole = update.horizon > 1 and bool(np.isfinite([*before, *after]).all())
        return ImportedScores(
            klines=source.named,
            last_close=closes[known_ms],
            close=closes[end_ms],
            upside=EventScore(probability=update.upside, happened=closes[end_ms] > closes[known_ms]),
            volatility_amplification=EventScore(
                probability=update.volatility_amplification,
                happened=volatility_rose(np.array(before), np.array(after)),
            )
            if whole
            else None,
            scored_at_ms=now_ms,
        )
    return None
