from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.inference.path_statistics import count_defects, paths_needed, summarise
from shared.klines import AMOUNT, CLOSE, HIGH, LOW, VOLUME
from shared.statistics import quantile_band, wilson_share


def _paths(closes: np.ndarray) -> np.ndarray:
    """Flawless paths [N, horizon, 6] with these closes [N, horizon]."""
    ones = np.ones_like(closes)
    return np.stack((closes, closes * 1.01, closes * 0.99, closes, ones * 10, ones * 1000), axis=-1)


def _walks(count: int, horizon: int, deviation: float, seed: int = 0) -> np.ndarray:
    steps = np.random.default_rng(seed).normal(0, deviation, (count, horizon))
    return 100 * np.exp(np.cumsum(steps, axis=1))


@pytest.mark.parametrize(
    ("paths", "of", "lower", "upper"),
    [
        # Newcombe 1998, table I, method 3 (score, no continuity correction).
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
        (0, 30, 0.0, 0.1135),
        (30, 30, 0.8865, 1.0),
        (15, 30, 0.3315, 0.6685),
    ],
)
def test_wilson_intervals_are_the_tabulated_ones(paths: int, of: int, lower: float, upper: float) -> None:
    share = wilson_share(paths, of)
    assert share.value == paths / of
    assert (round(share.lower, 4), round(share.upper, 4)) == (lower, upper)


@pytest.mark.parametrize(
    ("count", "level", "kind"),
    [
        (38, 95, "range"),
        (39, 95, "quantile"),
        (8, 80, "range"),
        (9, 80, "quantile"),
        (2, 50, "range"),
        (3, 50, "quantile"),
        (1, 50, "range"),
    ],
)
def test_a_band_beyond_the_outermost_path_is_called_a_range(count: int, level: int, kind: str) -> None:
    values = np.random.default_rng(0).normal(size=(count, 2))
    band = quantile_band(values, level)
    assert band.kind == kind
    if kind == "range":
        np.testing.assert_array_equal(band.lower, values.min(axis=0))
        np.testing.assert_array_equal(band.upper, values.max(axis=0))


def test_quantiles_follow_the_weibull_rule() -> None:
    values = np.arange(1.0, 40.0)[:, None]  # the k-th of 39 stands at k / 40
    assert (quantile_band(values, 80).lower[0], quantile_band(values, 80).upper[0]) == pytest.approx((4.0, 36.0))
    assert (quantile_band(values, 95).lower[0], quantile_band(values, 95).upper[0]) == pytest.approx((1.0, 39.0))


def test_the_80_percent_band_of_30_perfect_paths_covers_80_percent() -> None:
    draws = np.random.default_rng(1).normal(size=(31, 20_000))
    band = quantile_band(draws[:30], 80)
    assert ((draws[30] >= band.lower) & (draws[30] <= band.upper)).mean() == pytest.approx(0.80, abs=0.012)


def test_steps_are_summarised_over_paths() -> None:
    statistics = summarise(_paths(np.array([[1.0, 5.0], [2.0, 6.0], [6.0, 7.0]])), np.array([1.0, 2.0, 3.0]), 24)
    close = statistics.columns["close"]
    assert close.mean.tolist() == [3.0, 6.0]
    assert close.median.tolist() == [2.0, 6.0]
    assert (close.minimum.tolist(), close.maximum.tolist()) == ([1.0, 5.0], [6.0, 7.0])
    assert [band.level for band in close.bands] == [50, 80, 95]
    assert set(statistics.columns) == {"open", "high", "low", "close", "volume", "amount"}


def test_upside_is_the_share_of_paths_that_end_above_the_last_known_close() -> None:
    closes = np.array([[1.0, 101.0], [500.0, 100.0], [1.0, 100.5], [300.0, 99.0]])
    upside = summarise(_paths(closes), np.array([90.0, 100.0]), 24).upside
    assert upside is not None
    assert (upside.value, upside.paths, upside.of) == (0.5, 2, 4)


@pytest.mark.parametrize(
    ("horizon", "window", "known", "compared"),
    [(24, 24, 360, 24), (48, 24, 360, 24), (6, 24, 360, 6), (24, 48, 360, 24), (24, 24, 10, 10)],
)
def test_volatility_compares_equal_numbers_of_returns(horizon: int, window: int, known: int, compared: int) -> None:
    past = _walks(1, known + 1, 0.01, seed=1)[0]
    past *= 100 / past[-1]
    closes = _walks(50, horizon, 0.01, seed=2)
    statistics = summarise(_paths(closes), past, window)
    assert statistics.returns_compared == compared
    ours = statistics.volatility_amplification
    assert ours is not None
    before = np.std(np.diff(np.log(past))[-compared:], ddof=1)
    ahead = [np.std(np.diff(np.log([past[-1], *path]))[:compared], ddof=1) for path in closes]
    assert ours.paths == sum(deviation > before for deviation in ahead)


def test_calm_paths_amplify_nothing_and_wild_ones_always_do() -> None:
    past = _walks(1, 100, 0.01)[0]
    calm = summarise(_paths(past[-1] * _walks(30, 24, 0.001) / 100), past, 24).volatility_amplification
    wild = summarise(_paths(past[-1] * _walks(30, 24, 0.1) / 100), past, 24).volatility_amplification
    assert calm is not None
    assert wild is not None
    assert (calm.value, wild.value) == (0.0, 1.0)
    assert calm.upper == pytest.approx(0.1135, abs=1e-4)


def test_one_step_has_no_deviation() -> None:
    statistics = summarise(_paths(_walks(30, 1, 0.01)), _walks(1, 100, 0.01)[0], 24)
    assert statistics.volatility_amplification is None
    assert statistics.upside is not None


def test_every_kind_of_defect_is_counted_by_path() -> None:
    paths = _paths(_walks(8, 5, 0.01))
    paths[0, 1, VOLUME] = paths[0, 3, VOLUME] = -1
    paths[1, 0, AMOUNT] = -1
    paths[2, 2, HIGH] = paths[2, 2, LOW] * 0.9
    paths[3, 2, LOW] = paths[3, 2, CLOSE] * 1.001
    paths[4, 4, CLOSE] = math.nan
    paths[5, 4, LOW] = 0.0
    assert count_defects(paths) == {
        "non_finite": 1,
        "non_positive_price": 1,
        "negative_volume": 1,
        "negative_amount": 1,
        "high_below_low": 1,
        "high_below_open_or_close": 1,
        "low_above_open_or_close": 1,
        "any": 6,
    }


def test_flawless_paths_have_no_defect() -> None:
    assert set(count_defects(_paths(_walks(8, 5, 0.01))).values()) == {0}


@pytest.mark.parametrize("poison", [math.nan, math.inf, -math.inf])
def test_a_path_that_is_not_finite_is_left_out_and_counted(poison: float) -> None:
    paths = _paths(_walks(30, 12, 0.01))
    past = _walks(1, 50, 0.01)[0]
    clean = summarise(paths[1:], past, 24)
    paths[0, 7, VOLUME] = poison
    statistics = summarise(paths, past, 24)
    assert statistics.defects["non_finite"] == 1
    assert statistics.upside == clean.upside
    np.testing.assert_array_equal(statistics.columns["volume"].mean, clean.columns["volume"].mean)


def test_nothing_finite_gives_no_numbers_but_a_full_count() -> None:
    statistics = summarise(np.full((5, 3, 6), np.nan), np.array([1.0, 2.0, 3.0]), 24)
    assert statistics.upside is None
    assert statistics.volatility_amplification is None
    assert np.isnan(statistics.columns["close"].mean).all()
    assert statistics.defects["non_finite"] == 5


def test_a_path_without_positive_closes_has_no_volatility_but_counts_otherwise() -> None:
    closes = _walks(10, 5, 0.01)
    closes[0, 2] = -1.0
    statistics = summarise(_paths(closes), _walks(1, 50, 0.01)[0], 24)
    assert statistics.upside is not None
    assert statistics.volatility_amplification is not None
    assert (statistics.upside.of, statistics.volatility_amplification.of) == (10, 9)


@given(of=st.integers(1, 400), data=st.data(), target=st.floats(0.005, 0.4))
def test_the_paths_needed_are_the_fewest_that_make_the_half_width_small_enough(
    of: int, data: st.DataObject, target: float
) -> None:
    share = wilson_share(data.draw(st.integers(0, of)), of)
    needed = paths_needed(share, target)
    if share.half_width <= target * (1 - 1e-9):
        assert needed <= of
    if share.half_width >= target * (1 + 1e-9):
        assert needed > of
    multiple = -(-needed // of)  # the same share of more paths, exactly
    assert wilson_share(share.paths * multiple, of * multiple).half_width <= target * (1 + 1e-9)
