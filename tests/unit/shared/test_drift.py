"""Drift is seen when there is some, and hardly ever when there is none, though neighbouring forecasts say much the same."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import t as student

from shared.drift import RECENT, coverage_drift, skill_drift
from shared.drift import _student_99 as student_99
from shared.resampling import FEWEST, Floats

BLOCK = 24
SERIES = 400


def overlapping(rng: np.random.Generator, count: int) -> Floats:
    """Means over the next BLOCK of independent numbers, one step apart: what overlapping horizons give."""
    own = rng.normal(size=count + BLOCK)
    return np.convolve(own, np.full(BLOCK, 1 / np.sqrt(BLOCK)), mode="valid")[:count]


def test_overlapping_forecasts_of_a_sound_model_are_hardly_ever_called_drifted() -> None:
    rng = np.random.default_rng(1)
    called = {"coverage": 0, "skill": 0}
    for _ in range(SERIES):
        covered = coverage_drift(0.8 + 0.1 * overlapping(rng, 600), BLOCK, 80, recalibrated=False)
        plain = 100 + 20 * overlapping(rng, 600)
        skill = skill_drift(0.95 * plain + 5 * overlapping(rng, 600), plain, BLOCK)
        assert covered
        assert skill
        called["coverage"] += covered.drifted
        called["skill"] += skill.drifted
    assert max(called.values()) <= 0.03 * SERIES, "1 % by chance, and what blocks leave of the overlap"


@pytest.mark.parametrize("moved", [-0.25, 0.25])
def test_coverage_that_leaves_what_the_band_says_is_seen_and_is_over_when_it_is_over(moved: float) -> None:
    rng = np.random.default_rng(2)
    shares = 0.8 + 0.05 * overlapping(rng, 800)
    shares[500:600] += moved
    during = coverage_drift(shares[:600], BLOCK, 80, recalibrated=True)
    after = coverage_drift(shares, BLOCK, 80, recalibrated=True)
    assert during
    assert after
    assert (during.drifted, during.recalibrated, after.drifted) == (True, True, False)
    assert during.covered == pytest.approx(0.8 + moved, abs=0.05)
    assert during.expected_from < 0.8 < during.expected_to


@pytest.mark.parametrize("factor", [1.4, 0.6])
def test_skill_that_is_not_what_it_was_is_seen(factor: float) -> None:
    rng = np.random.default_rng(3)
    plain = 100 + 10 * overlapping(rng, 500)
    crps = 0.95 * plain + 2 * overlapping(rng, 500)
    crps[-RECENT:] *= factor
    drift = skill_drift(crps, plain, BLOCK)
    assert drift
    assert drift.drifted
    assert drift.skill_before == pytest.approx(0.05, abs=0.01)
    assert drift.skill == pytest.approx(1 - 0.95 * factor, abs=0.02)
    assert drift.expected_from < drift.skill_before < drift.expected_to


def test_a_market_in_which_all_are_further_off_is_no_drift_of_the_skill() -> None:
    rng = np.random.default_rng(4)
    plain = 100 + 10 * overlapping(rng, 500)
    plain[-RECENT:] *= 3
    drift = skill_drift(0.95 * plain + 2 * overlapping(rng, 500), plain, BLOCK)
    assert drift
    assert not drift.drifted


def test_too_few_are_not_judged() -> None:
    assert coverage_drift(np.full(2 * FEWEST - 1, 0.1), 1, 80, recalibrated=False) is None
    assert coverage_drift(np.full(4 * BLOCK, 0.1), BLOCK, 80, recalibrated=False) is None
    assert skill_drift(np.full(RECENT + 5 * BLOCK - 1, 2.0), np.ones(RECENT + 5 * BLOCK - 1), BLOCK) is None
    assert skill_drift(np.ones(500), np.zeros(500), BLOCK) is None


@pytest.mark.parametrize("freedom", [4, 6, 10, 30, 200])
def test_the_range_is_students(freedom: int) -> None:
    assert student_99(freedom) == pytest.approx(student.ppf(0.995, freedom), rel=0.03)
