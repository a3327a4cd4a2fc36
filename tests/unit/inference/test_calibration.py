"""Recalibration holds what it says in the long run, learns only from what came before, and keeps the order of things."""

from __future__ import annotations

import numpy as np
import pytest

from services.inference.calibration import (
    FEWEST,
    LEVELS,
    BandTracker,
    fit_beta_map,
    learn,
    position,
    recalibrate,
    spread_unit,
)
from shared.calibration import BandFactors, BetaMap, SeriesCalibration
from shared.ledger import EventScore
from tests.builders import finished_forecast, forecast_request, kline_window, with_baselines


def coverage(positions: np.ndarray) -> np.ndarray:
    """By level: how often the band that was known before held each position; positions [n, horizon]."""
    tracker, inside = BandTracker(), []
    for one in positions:
        factors = tracker.factors()
        if factors is not None:
            inside.append(np.abs(one) <= factors)
        tracker.observe(one)
    return np.mean(inside, axis=(0, 2))


@pytest.mark.parametrize("scale", [0.2, 1.0, 5.0])
def test_bands_cover_what_they_say_however_wrong_the_raw_ones_are(scale: float) -> None:
    positions = scale * np.random.default_rng(1).normal(size=(2000, 24))
    assert coverage(positions) == pytest.approx(np.array(LEVELS) / 100, abs=0.01)


def test_bands_follow_when_the_spread_changes() -> None:
    rng = np.random.default_rng(1)
    positions = np.concatenate((rng.normal(size=(1000, 24)), 3 * rng.normal(size=(1000, 24))))
    assert coverage(positions) == pytest.approx(np.array(LEVELS) / 100, abs=0.02)


def test_nothing_is_known_before_enough_are_scored() -> None:
    tracker = BandTracker()
    for _ in range(FEWEST - 1):
        tracker.observe(np.ones(3))
    assert tracker.factors() is None
    tracker.observe(np.ones(3))
    assert tracker.factors() == pytest.approx(np.ones((3, 3)))
    assert learn([]) is None


def test_steps_whose_candle_is_missing_teach_nothing() -> None:
    one, other = BandTracker(), BandTracker()
    rng = np.random.default_rng(1)
    for _ in range(FEWEST):
        positions = rng.normal(size=2)
        one.observe(positions)
        other.observe(positions)
    other.observe(np.array([np.nan, 9.0]))
    before, after = one.factors(), other.factors()
    assert before is not None
    assert after is not None
    assert after[:, 0] == pytest.approx(before[:, 0])
    assert (after[:, 1] > before[:, 1]).all()


def test_a_recalibrated_band_reaches_as_far_as_its_factors_say() -> None:
    window = kline_window(400)
    forecast, _ = finished_forecast("f", window, forecast_request(num_samples=40))
    forecast, _ = with_baselines(forecast, window)
    learned = SeriesCalibration(
        scored=50,
        bands=[BandFactors(level=80, factors=[1.5] * 24)],
        upside=BetaMap(a=1.0, b=1.0, c=0.0, learned_from=50),
        volatility_amplification=None,
    )
    said = recalibrate(forecast, learned)
    assert said
    edge = position(forecast, np.array(said.bands[0].upper))
    assert edge == pytest.approx(np.full(24, 1.5))
    assert position(forecast, np.array(said.bands[0].lower)) == pytest.approx(np.full(24, -1.5))
    assert said.upside == pytest.approx(forecast.upside.value)  # slopes of one and no shift change nothing
    assert said.volatility_amplification is None


def test_a_forecast_without_baselines_or_with_a_price_below_zero_is_left_as_it_is() -> None:
    window = kline_window(400)
    bare, _ = finished_forecast("f", window, forecast_request(num_samples=40))
    learned = SeriesCalibration(scored=50, bands=[], upside=None, volatility_amplification=None)
    assert np.isnan(spread_unit(bare)).all()
    assert recalibrate(bare, learned) is None
    whole, _ = with_baselines(bare, window)
    bands = [band.model_copy(update={"lower": [-1.0] * 24}) for band in whole.close.bands]
    below = whole.model_copy(update={"close": whole.close.model_copy(update={"bands": bands})})
    assert recalibrate(below, learned) is None


def test_probabilities_that_are_too_sure_are_drawn_in_and_keep_their_order() -> None:
    rng = np.random.default_rng(1)
    true = rng.uniform(0.3, 0.7, 3000)
    said = 1 / (1 + (1 / true - 1) ** 3)  # three times the log odds
    learned = fit_beta_map(
        [EventScore(probability=p, happened=h) for p, h in zip(said, rng.random(3000) < true, strict=True)]
    )
    assert learned

    def mapped(p: float) -> float:
        p = min(max(p, 0.005), 0.995)
        return float(1 / (1 + np.exp(-(learned.a * np.log(p) - learned.b * np.log(1 - p) + learned.c))))

    points = [mapped(p) for p in (0.05, 0.25, 0.5, 0.75, 0.95)]
    assert points == sorted(points)
    assert mapped(0.927) == pytest.approx(0.7, abs=0.04)
    assert mapped(0.5) == pytest.approx(0.5, abs=0.03)


def test_probabilities_are_not_mapped_by_too_few_or_by_what_always_happened() -> None:
    few = [EventScore(probability=0.5, happened=bool(i % 2)) for i in range(FEWEST - 1)]
    assert fit_beta_map(few) is None
    assert fit_beta_map([EventScore(probability=0.5, happened=True)] * 100) is None
