"""Quantiles by the Weibull rule: the same as the bands', and honest about few paths."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from shared.statistics import quantile_band, quantile_lines


@pytest.mark.parametrize(("paths", "kind"), [(38, "range"), (39, "quantile"), (40, "quantile")])
def test_a_quantile_beyond_the_outermost_path_is_called_a_range(paths: int, kind: str) -> None:
    values = np.arange(1.0, paths + 1)[:, None]
    low, high = quantile_lines(values, [Fraction("0.025"), Fraction("0.975")])
    assert (low.kind, high.kind) == (kind, kind)
    assert low.values[0] == pytest.approx(max(1, 0.025 * (paths + 1)))
    assert high.values[0] == pytest.approx(min(paths, 0.975 * (paths + 1)))


@pytest.mark.parametrize("level", [50, 80, 95])
def test_a_band_ends_at_the_quantiles_of_its_tails(level: int) -> None:
    values = np.random.default_rng(level).normal(size=(30, 6))
    band = quantile_band(values, level)
    tail = Fraction(100 - level, 200)
    lower, upper = quantile_lines(values, [tail, 1 - tail])
    assert lower.kind == upper.kind == band.kind
    np.testing.assert_allclose(lower.values, band.lower, rtol=1e-12)
    np.testing.assert_allclose(upper.values, band.upper, rtol=1e-12)
