"""GARCH among the baselines, by the optional arch."""

from __future__ import annotations

import math

import numpy as np
import pytest

from services.inference import garch
from services.inference.baselines import state_baselines
from services.inference.garch import garch_spread
from shared.forecasts import BASELINE_NAMES
from tests.builders import kline_values

OMEGA, ALPHA, BETA = 1e-6, 0.10, 0.85


def simulated(count: int, seed: int = 1) -> tuple[np.ndarray, float]:
    """Returns of a GARCH(1,1) process, and the variance that the next one has."""
    rng = np.random.default_rng(seed)
    variance, returns = OMEGA / (1 - ALPHA - BETA), []
    for _ in range(count):
        returns.append(math.sqrt(variance) * rng.normal())
        variance = OMEGA + ALPHA * returns[-1] ** 2 + BETA * variance
    return np.array(returns), variance


@pytest.mark.parametrize("count", [3_970, 4_000])  # the next variance is 0.65 and 2.5 times the usual one
def test_the_spread_is_that_of_the_process_that_made_the_returns(count: int) -> None:
    returns, following = simulated(count)
    usual = OMEGA / (1 - ALPHA - BETA)
    variances = usual + (ALPHA + BETA) ** np.arange(24) * (following - usual)
    assert garch_spread(returns, 24) == pytest.approx(np.sqrt(variances.cumsum()), rel=0.08)


def test_the_spread_is_in_the_unit_of_the_returns() -> None:
    returns, _ = simulated(500)
    small, large = garch_spread(returns * 1e-6, 24), garch_spread(returns, 24)
    assert small == pytest.approx(1e-6 * np.array(large), rel=1e-9)


def test_no_garch_is_stated_of_a_price_that_never_moved() -> None:
    plain = state_baselines(np.full(361, 7.0), 24, np.random.default_rng(1))
    assert [one.name for one in plain.stated] == [name for name in BASELINE_NAMES if name != "garch"]


def test_without_arch_the_others_are_stated(monkeypatch: pytest.MonkeyPatch) -> None:
    closes = kline_values(361)[:, 3]
    with_arch = state_baselines(closes, 24, np.random.default_rng(1))
    monkeypatch.setattr(garch, "find_spec", lambda _: None)
    without = state_baselines(closes, 24, np.random.default_rng(1))
    assert with_arch.stated[-1].name == "garch"
    assert without.stated == with_arch.stated[:-1]
    np.testing.assert_array_equal(without.draws, with_arch.draws)
