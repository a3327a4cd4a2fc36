"""How good an ensemble of paths was, once the outcome is known. Pure functions on arrays; knows no model.

Everywhere `paths` is [n, horizon] and `outcome` [horizon], in the same units.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scoringrules
from numpy.typing import NDArray

from shared.statistics import quantile_band

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class BandScore:
    """Of one central band at each step [horizon]: whether the outcome fell inside, and the interval score."""

    level: int
    covered: NDArray[np.bool_]
    interval_score: Floats


def crps(paths: Floats, outcome: Floats) -> Floats:
    """Fair continuous ranked probability score at each step: mean|x - y| - sum_ij |x_i - x_j| / (2 n (n - 1)).

    Fair means that n perfect paths score on average as infinitely many would (Ferro 2014). One path scores |x - y|.
    """
    if len(paths) == 1:
        return np.asarray(np.abs(paths[0] - outcome), dtype=np.float64)
    scores = scoringrules.crps_ensemble(outcome, paths, m_axis=0, estimator="fair")
    return np.atleast_1d(np.asarray(scores, dtype=np.float64))


def band_score(paths: Floats, outcome: Floats, level: int) -> BandScore:
    """The central band of `level` percent by Weibull quantiles; interval score as Gneiting and Raftery 2007, eq. 43."""
    band = quantile_band(paths, level)
    covered = (band.lower <= outcome) & (outcome <= band.upper)
    score = scoringrules.interval_score(outcome, band.lower, band.upper, 1 - level / 100)
    # scoringrules gives a bare number for one step.
    return BandScore(level, covered, np.atleast_1d(np.asarray(score, dtype=np.float64)))


def brier(probability: float, happened: bool) -> float:
    """(probability - outcome)^2: 0 is perfect, 0.25 is what a constant one half scores."""
    return (probability - float(happened)) ** 2
