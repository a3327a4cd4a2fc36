"""Scores against scoringrules, closed forms and examples worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scoringrules
from hypothesis import given
from hypothesis import strategies as st

from services.inference.baselines import DRAWS, ewma_std, log_returns, state_baselines
from services.inference.scoring.distributions import Ensemble, Lognormal, distribution_of
from services.inference.scoring.scores import brier, covered, crps, interval_score, pit
from services.inference.scoring.verdict import score_forecast
from shared.forecasts import BASELINE_NAMES
from tests.builders import finished_forecast, forecast_request, kline_values, kline_window, with_baselines

PRICES = st.floats(1, 1e5)


def test_fair_crps_of_two_paths_is_the_closed_form() -> None:
    # mean|x - y| - sum_ij |x_i - x_j| / (2 * 2 * 1) = (1 + 3) / 2 - (2 * 2) / 4
    assert crps(np.array([[1.0], [-3.0]]), np.array([0.0])).tolist() == [2.0 - 2.0]
    assert crps(np.array([[1.0], [3.0]]), np.array([0.0])).tolist() == [2.0 - 1.0]


def test_crps_of_one_path_is_its_error() -> None:
    assert crps(np.array([[3.0, 5.0]]), np.array([1.0, 5.0])).tolist() == [2.0, 0.0]


@given(st.lists(PRICES, min_size=2, max_size=40), PRICES)
def test_crps_is_the_fair_estimator_written_out(paths: list[float], outcome: float) -> None:
    n, x = len(paths), np.array(paths)
    by_hand = np.abs(x - outcome).mean() - np.abs(x[:, None] - x).sum() / (2 * n * (n - 1))
    assert crps(x[:, None], np.array([outcome]))[0] == pytest.approx(by_hand, rel=1e-9, abs=1e-6)


def test_the_default_estimator_of_scoringrules_would_be_another() -> None:
    paths, outcome = np.random.default_rng(1).normal(size=(30, 1)), np.array([0.3])
    by_default = scoringrules.crps_ensemble(outcome, paths, m_axis=0)
    assert abs(crps(paths, outcome)[0] - by_default[0]) > 1e-3


def test_fair_crps_of_normal_paths_nears_that_of_the_normal_distribution() -> None:
    rng = np.random.default_rng(1)
    scores = crps(rng.normal(size=(20, 20_000)), rng.normal(size=20_000))
    assert scores.mean() == pytest.approx(1 / math.sqrt(math.pi), rel=0.02)


def test_bands_of_few_perfect_paths_cover_what_they_say() -> None:
    rng = np.random.default_rng(1)
    inside = covered(*Ensemble(rng.normal(size=(39, 20_000))).band(80), rng.normal(size=20_000))
    assert inside.mean() == pytest.approx(0.80, abs=0.01)


def test_the_interval_score_charges_width_and_misses() -> None:
    band = Ensemble(np.arange(1.0, 10.0)[:, None]).band(80)  # nine paths: the band is exactly the first to the ninth
    inside, outside = (interval_score(*band, np.array([outcome]), 80)[0] for outcome in (5.0, 10.0))
    assert inside == pytest.approx(8.0)
    assert outside == pytest.approx(8.0 + 2 / 0.2 * 1.0)


def test_the_pit_of_perfect_paths_is_flat() -> None:
    rng = np.random.default_rng(1)
    ranks = pit(rng.normal(size=(39, 20_000)), rng.normal(size=20_000))
    shares = np.histogram(ranks, bins=10, range=(0, 1))[0] / 20_000
    assert np.abs(shares - 0.1).max() < 4 * math.sqrt(0.1 * 0.9 / 20_000)


def test_the_pit_counts_paths_that_equal_the_outcome_half() -> None:
    paths = np.array([[1.0], [2.0], [2.0], [3.0]])
    assert pit(paths, np.array([2.0])).tolist() == [(1 + 1 + 0.5) / 5]
    assert pit(paths, np.array([0.0])).tolist() == [0.5 / 5]
    assert pit(paths, np.array([9.0])).tolist() == [4.5 / 5]


def test_brier_is_the_squared_error_of_a_probability() -> None:
    assert brier(0.7, happened=True) == pytest.approx(0.09)
    assert brier(0.7, happened=False) == pytest.approx(0.49)


def test_a_formula_scores_as_very_many_draws_from_it_would() -> None:
    said = Lognormal(100.0, np.array([0.02, 0.1]))
    draws = Ensemble(100 * np.exp(np.random.default_rng(1).normal(size=(3_000, 2)) * said.sigma))
    outcome = np.array([101.0, 85.0])
    np.testing.assert_allclose(said.crps(outcome), draws.crps(outcome), rtol=0.06)
    for level in (50, 80, 95):
        np.testing.assert_allclose(said.band(level), draws.band(level), rtol=0.02)
    assert said.probability_above(105.0) == pytest.approx(draws.probability_above(105.0), abs=0.04)


def test_the_last_price_scores_its_error() -> None:
    still = Lognormal(100.0, np.zeros(2))
    assert still.crps(np.array([103.0, 100.0])).tolist() == [3.0, 0.0]
    assert still.band(80)[0].tolist() == still.band(80)[1].tolist() == [100.0, 100.0]
    assert (still.probability_above(100.0), still.probability_above(99.0)) == (0.0, 1.0)


def test_baselines_spread_as_the_past_returns_do_and_do_not_drift() -> None:
    closes = kline_values(361)[:, 3] * np.exp(0.001 * np.arange(361))
    returns = log_returns(closes)
    plain = state_baselines(closes, 24, np.random.default_rng(1))
    stated = {one.name: one for one in plain.stated}
    assert list(stated) == list(BASELINE_NAMES)
    assert stated["random_walk"].sigma == pytest.approx(returns.std() * np.sqrt(np.arange(1, 25)))
    assert stated["random_walk_ewma"].sigma == pytest.approx(ewma_std(returns) * np.sqrt(np.arange(1, 25)))
    assert plain.draws.shape == (DRAWS, 24)
    last = plain.draws[:, -1].astype(float)
    assert last.std() == pytest.approx(returns.std() * math.sqrt(24), rel=0.2)
    assert abs(last.mean()) < 3 * last.std() / math.sqrt(DRAWS)
    assert (stated["bootstrap_ewma"].scale or 0) * returns.std() == pytest.approx(ewma_std(returns))


def test_the_same_seed_states_the_same_baselines() -> None:
    closes = kline_values(361)[:, 3]
    one, other = (state_baselines(closes, 24, np.random.default_rng(5)) for _ in range(2))
    assert one.stated == other.stated
    np.testing.assert_array_equal(one.draws, other.draws)


def test_ewma_weighs_recent_returns_most() -> None:
    assert ewma_std(np.full(360, 0.01)) == pytest.approx(0.01)
    calm_then_wild = np.concatenate((np.full(330, 0.001), np.full(30, 0.01)))
    assert ewma_std(calm_then_wild) > 2 * ewma_std(calm_then_wild[::-1])


def test_a_price_that_never_moved_stays_where_it_is() -> None:
    plain = state_baselines(np.full(361, 7.0), 24, np.random.default_rng(1))
    for one in plain.stated:
        assert distribution_of(one, plain.draws, 7.0).crps(np.full(24, 7.0)) == pytest.approx(0)


def test_a_verdict_holds_every_score_of_its_forecast() -> None:
    window, ahead = kline_window(400), kline_values(24, seed=8)[:, 3]
    outcome = ahead * window.last_close / 50_000
    forecast, paths = finished_forecast("f", window, forecast_request(num_samples=40))
    forecast, draws = with_baselines(forecast, window)
    scores = score_forecast(forecast, paths, draws, outcome, window.values[:, 3])
    closes, scale = paths[:, :, 3].astype(float), 1e4 / window.last_close
    by_step = scoringrules.crps_ensemble(outcome, closes, m_axis=0, estimator="fair") * scale
    assert scores.crps == pytest.approx(by_step.mean(), abs=1e-5)
    assert scores.crps_by_step == pytest.approx(by_step, abs=1e-4)
    assert scores.error_of_mean == pytest.approx(np.abs(closes.mean(0) - outcome).mean() * scale, abs=1e-5)
    assert [band.level for band in scores.bands] == [50, 80, 95]
    lower, upper = Ensemble(closes).band(80)
    assert scores.bands[1].covered == [bool(low <= y <= up) for low, y, up in zip(lower, outcome, upper, strict=True)]
    assert scores.upside
    assert scores.upside.happened == (outcome[-1] > window.last_close)
    assert scores.upside.brier == pytest.approx((forecast.upside.value - scores.upside.happened) ** 2)
    before = np.diff(np.log(window.values[-25:, 3])).std(ddof=1)
    after = np.diff(np.log(np.concatenate(([window.last_close], outcome)))).std(ddof=1)
    assert scores.volatility_amplification
    assert scores.volatility_amplification.happened == (after > before)
    assert set(scores.baselines) == set(BASELINE_NAMES)
    assert scores.baselines["last_price"].crps == pytest.approx(
        np.abs(outcome - window.last_close).mean() * scale, abs=1e-5
    )
    assert scores.recalibrated is None


def test_missing_candles_leave_their_steps_out() -> None:
    window, outcome = kline_window(400), kline_values(24, seed=8)[:, 3].copy()
    outcome[[3, 23]] = np.nan
    forecast, paths = finished_forecast("f", window, forecast_request(num_samples=40))
    forecast, draws = with_baselines(forecast, window)
    scores = score_forecast(forecast, paths, draws, outcome, window.values[:, 3])
    for by_step in (scores.crps_by_step, scores.pit, scores.position, scores.bands[0].covered):
        assert [place for place, value in enumerate(by_step) if value is None] == [3, 23]
    assert scores.upside is None
    assert scores.volatility_amplification is None
    assert math.isfinite(scores.crps)


def test_a_recalibrated_forecast_is_scored_beside_the_raw_one() -> None:
    from services.inference.calibration import learn, recalibrate
    from shared.calibration import FEWEST

    window, outcome = kline_window(400), kline_values(24, seed=8)[:, 3]
    forecast, paths = finished_forecast("f", window, forecast_request(num_samples=40))
    forecast, draws = with_baselines(forecast, window)
    scores = score_forecast(forecast, paths, draws, outcome, window.values[:, 3])
    learned = learn([scores] * FEWEST)
    assert learned
    said = recalibrate(forecast, learned)
    scores = score_forecast(
        forecast.model_copy(update={"recalibrated": said}), paths, draws, outcome, window.values[:, 3]
    )
    assert said
    assert scores.recalibrated
    for band, score in zip(said.bands, scores.recalibrated.bands, strict=True):
        inside = [low <= y <= up for low, y, up in zip(band.lower, outcome, band.upper, strict=True)]
        assert score.covered == inside
