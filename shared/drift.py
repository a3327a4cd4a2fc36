"""Whether the newest forecasts do as they should: are they covered as their band says, and is their skill what it was?

Horizons overlap, so neighbouring forecasts say much the same: what chance may do is told by how much the means of blocks
differ, each as long as the horizons that overlap. Numpy only; knows neither ledgers nor pages.
"""

from __future__ import annotations

import numpy as np
from pydantic import Field

from shared.contract import Contract
from shared.resampling import FEWEST, FEWEST_BLOCKS, Floats

RECENT = 100  # forecasts that drift is looked for in
Z_99 = 2.5758293035489  # standard normal quantile of 0.995


class Drift(Contract):
    """Whether the newest forecasts are covered as the band says, by a range that allows for overlapping horizons."""

    level: int
    recalibrated: bool = Field(description="whether the recalibrated bands are looked at: where there are enough")
    forecasts: int
    covered: float
    expected_from: float
    expected_to: float
    drifted: bool


class SkillDrift(Contract):
    """Whether the skill of the newest forecasts is that of those before, by a range that allows for overlapping horizons."""

    forecasts: int
    skill: float
    skill_before: float = Field(description="of the forecasts before them, against the same baseline")
    expected_from: float
    expected_to: float
    drifted: bool


def coverage_drift(shares: Floats, block: int, level: int, *, recalibrated: bool) -> Drift | None:
    """Of shares [n] of each forecast's closes that its band held, oldest first; none where there are too few.

    Expected is what the band says, give or take what chance does to the mean of so many in one of a hundred cases.
    """
    recent = shares[-RECENT:]
    if len(shares) < 2 * FEWEST or len(shares) // block < FEWEST_BLOCKS:
        return None
    error = _reach(shares, block) * np.sqrt(min(1.0, block / len(recent)))
    covered, said = float(recent.mean()), level / 100
    return Drift(
        level=level,
        recalibrated=recalibrated,
        forecasts=len(recent),
        covered=covered,
        expected_from=max(0.0, said - error),
        expected_to=min(1.0, said + error),
        drifted=abs(covered - said) > error,
    )


def skill_drift(crps: Floats, other: Floats, block: int) -> SkillDrift | None:
    """Of the forecasts' and a baseline's CRPS [n], oldest first; none where too few lie before the newest.

    With the skill s of those before, crps - (1 - s) * other is nought on average, before and now: how far its mean may
    stray by chance, in one of a hundred cases, gives the range.
    """
    before, recent = slice(None, -RECENT), slice(-RECENT, None)
    count = max(0, len(crps) - RECENT)
    if count < 2 * FEWEST or count // block < FEWEST_BLOCKS or other[before].mean() <= 0 or other[recent].mean() <= 0:
        return None
    usual = 1 - float(crps[before].mean() / other[before].mean())
    strayed = crps[before] - (1 - usual) * other[before]
    error = _reach(strayed, block) * np.sqrt(min(1.0, block / RECENT) + block / count) / float(other[recent].mean())
    skill = 1 - float(crps[recent].mean() / other[recent].mean())
    return SkillDrift(
        forecasts=RECENT,
        skill=skill,
        skill_before=usual,
        expected_from=usual - error,
        expected_to=usual + error,
        drifted=abs(skill - usual) > error,
    )


def _reach(values: Floats, block: int) -> float:
    """How far the mean of one block of values [n] lies from the mean of all at most, but for one of a hundred blocks: by
    Student's t, since few blocks tell little of how much blocks differ.
    """
    blocks = len(values) // block
    means = values[-blocks * block :].reshape(blocks, block).mean(axis=1)
    return _student_99(blocks - 1) * float(means.std(ddof=1))


def _student_99(freedom: int) -> float:
    """The 0.995 quantile of Student's t: three terms of its expansion about the normal one (Fisher and Cornish 1960), good to
    3 % from four degrees of freedom on.
    """
    z, v = Z_99, freedom
    first, second = (z**3 + z) / 4, (5 * z**5 + 16 * z**3 + 3 * z) / 96
    third = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    return z + first / v + second / v**2 + third / v**3
