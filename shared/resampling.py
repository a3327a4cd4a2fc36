"""How sure a mean over forecasts is, where neighbouring ones say much the same since their horizons overlap.

Block bootstrap in numpy; knows neither ledgers nor pages.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from shared.contract import Contract

Floats = NDArray[np.float64]

FEWEST = 30  # scored forecasts before anything is claimed
FEWEST_BLOCKS = 5  # that do not overlap; fewer tell little of how much blocks differ
RESAMPLES = 2000


class Interval95(Contract):
    """A mean over forecasts, with its 95 % interval by block bootstrap; none where there are too few."""

    value: float
    lower: float | None
    upper: float | None


def block_bootstrap(values: Floats, block: int, statistic: Callable[[Floats], Floats]) -> tuple[float, float] | None:
    """The 95 % interval of `statistic` of the means of values [n, k], resampled in circular blocks of `block` rows (Politis
    and Romano 1992); none for fewer rows than `needed`. `statistic` maps means [resamples, k] to [resamples].
    """
    count = len(values)
    if count < needed(block):
        return None
    blocks = -(-count // block)
    sums = np.concatenate((np.zeros((1, values.shape[1])), np.cumsum(np.concatenate((values, values[:block])), axis=0)))
    starts = np.random.default_rng(0).integers(0, count, (RESAMPLES, blocks))
    means = (sums[starts + block] - sums[starts]).sum(axis=1) / (blocks * block)
    lower, upper = np.quantile(statistic(means), (0.025, 0.975))
    return float(lower), float(upper)


def block_length(times_ms: NDArray[np.int64], horizon: int, step_ms: int) -> int:
    """Of forecasts of `horizon` steps at ascending times: as many as overlap, and no fewer than the cube root of all, as is
    usual.
    """
    apart_ms = float(np.median(np.diff(times_ms))) if len(times_ms) > 1 else step_ms
    return max(1, int(np.ceil(horizon * step_ms / max(apart_ms, 1.0))), int(np.cbrt(len(times_ms))))


def needed(block: int) -> int:
    """Scored forecasts before an interval is given: FEWEST, and FEWEST_BLOCKS blocks."""
    return max(FEWEST, FEWEST_BLOCKS * block)


def mean_interval(values: Floats, block: int) -> Interval95:
    """Of the values [n] that are known (not NaN)."""
    known = values[~np.isnan(values)]
    bounds = block_bootstrap(known[:, None], block, lambda means: means[:, 0])
    return _interval(float(known.mean()), bounds)


def skill_interval(crps: Floats, other: Floats, block: int) -> Interval95:
    """1 - the mean of crps [n] / the mean of other [n], both of the same forecasts; 0 where the other is never off."""
    pair = np.stack([crps, other], axis=1)

    def skill(means: Floats) -> Floats:
        compared: Floats = 1 - means[:, 0] / np.where(means[:, 1] > 0, means[:, 1], np.nan)
        return np.nan_to_num(compared)

    bounds = block_bootstrap(pair, block, skill)
    return _interval(float(skill(pair.mean(axis=0)[None])[0]), bounds)


def _interval(value: float, bounds: tuple[float, float] | None) -> Interval95:
    return Interval95(value=value, lower=bounds[0] if bounds else None, upper=bounds[1] if bounds else None)
