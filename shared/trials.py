"""Settings on trial: ways of forecasting compared on the forecasts that follow the same candles, and on no others.

Two settings that ran in different weeks met different markets, so their means say nothing of which is better.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from pydantic import Field

from shared.contract import Contract
from shared.ledger import LedgerEntry
from shared.resampling import Interval95, skill_interval
from shared.statistics import LEVELS


class Trial(Contract):
    """A setting beside another one, where both were run."""

    forecaster: str = Field(description="the other one")
    forecasts: int = Field(description="candles after which both have a scored forecast of the same horizon")
    crps: float = Field(description="of this one there, in 1e-4 of the last close")
    crps_of_other: float
    skill: Interval95 = Field(description="1 - crps / crps_of_other: above 0 where this one is better")
    covered_80: float = Field(description="share of the closes that this one's raw 80 % band held")
    covered_80_of_other: float


def trial(own: Sequence[LedgerEntry], others: Sequence[LedgerEntry], block: int) -> Trial | None:
    """Scored entries of two forecasters; None where they have no candle and horizon in common."""
    by_candle = {(entry.last_open_time_ms, entry.horizon): entry.scores for entry in others}
    pairs = [
        (entry.scores, other)
        for entry in own
        if entry.scores and (other := by_candle.get((entry.last_open_time_ms, entry.horizon)))
    ]
    if not pairs:
        return None
    crps = np.array([[one.crps, other.crps] for one, other in pairs])
    covered = [[one.bands[LEVELS.index(80)].share for one in pair] for pair in pairs]
    return Trial(
        forecaster=others[0].forecaster,
        forecasts=len(pairs),
        crps=float(crps[:, 0].mean()),
        crps_of_other=float(crps[:, 1].mean()),
        skill=skill_interval(crps[:, 0], crps[:, 1], block),
        covered_80=float(np.mean([own for own, _ in covered])),
        covered_80_of_other=float(np.mean([other for _, other in covered])),
    )
