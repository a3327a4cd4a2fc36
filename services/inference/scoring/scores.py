"""How good a forecast was at each step, once the outcome is known. Pure functions on arrays; knows no model.

Everywhere `outcome` is [horizon], in the units of what is scored. Where it is NaN, so is the score.
"""

from __future__ import annotations

import numpy as np
import scoringrules
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def crps(paths: Floats, outcome: Floats) -> Floats:
    """paths [n, horizon] -> fair continuous ranked probability score: mean|x - y| - sum_ij |x_i - x_j| / (2 n (n - 1)).

    Fair means that n perfect paths score on average as infinitely many would (Ferro 2014). One path scores |x - y|.
    """
    if len(paths) == 1:
        return np.asarray(np.abs(paths[0] - outcome), dtype=np.float64)
    scores = scoringrules.crps_ensemble(outcome, paths, m_axis=0, estimator="fair")
    return np.atleast_1d(np.asarray(scores, dtype=np.float64))


def covered(lower: Floats, upper: Floats, outcome: Floats) -> Floats:
    """1 where the outcome lies within a band, its ends included, else 0."""
    return np.where(np.isnan(outcome), np.nan, (lower <= outcome) & (outcome <= upper))


def interval_score(lower: Floats, upper: Floats, outcome: Floats, level: int) -> Floats:
    """Of the central band of `level` percent: its width, and what lies outside of it times 2 / (1 - level / 100).

    Gneiting and Raftery 2007, eq. 43.
    """
    # scoringrules gives a bare number for one step.
    return np.atleast_1d(np.asarray(scoringrules.interval_score(outcome, lower, upper, 1 - level / 100)))


def pit(paths: Floats, outcome: Floats) -> Floats:
    """paths [n, horizon] -> where the outcome ranks among the paths, from 0 to 1: uniform for perfect ones.

    The middle of the rank's share of n + 1, paths equal to the outcome counted half.
    """
    below, equal = (paths < outcome).sum(axis=0), (paths == outcome).sum(axis=0)
    return np.where(np.isnan(outcome), np.nan, (below + equal / 2 + 0.5) / (len(paths) + 1))


def brier(probability: float, happened: bool) -> float:
    """(probability - outcome)^2: 0 is perfect, 0.25 is what a constant one half scores."""
    return (probability - float(happened)) ** 2
