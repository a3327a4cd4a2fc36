"""Recalibration: what the forecasts of a series that were scored so far teach about the next one.

Bands: an adaptive conformal interval for each level and step. Its half width is a factor times a unit of spread; the log
of the factor goes up by RATE times the level's share whenever the close fell outside, and down by RATE times the rest
whenever inside, so that in the long run it holds what it says, whatever the model does (quantile tracking, Angelopoulos,
Candes and Tibshirani 2023, eq. 3). Probabilities: beta calibration (Kull, Silva Filho and Flach 2017), ridge-penalised.

RATE, FEWEST (shared), MOST, PENALTY and the unit were chosen on klines up to 2024 (docs/track-record.md). Numpy; knows neither
stores nor models.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from shared.calibration import FEWEST, BandFactors, BetaMap, SeriesCalibration
from shared.forecasts import Band, Forecast, Probability, Recalibrated
from shared.ledger import EventScore, Scores
from shared.statistics import LEVELS

MOST = 2000  # the newest that are learned from
RATE = 0.03
PENALTY = 1.0
UNIT_LEVEL = 80
RECENT = "random_walk_ewma"
SMALLEST = 1e-6  # of a position, whose logarithm is taken
CLOSEST_TO_CERTAIN = 0.005  # 30 or 200 paths tell nothing finer

Floats = NDArray[np.float64]


class BandTracker:
    """The factors of the bands, one forecast's positions after the other."""

    def __init__(self, rate: float = RATE) -> None:
        self._rate = rate
        self._first: list[Floats] = []
        self._log_factors: Floats | None = None  # [levels, horizon]
        self._tails = 1 - np.array(LEVELS)[:, None] / 100

    def observe(self, positions: Floats) -> None:
        """positions [horizon]: where a close lay (`position`), NaN where that is not known."""
        distance = np.log(np.maximum(np.abs(positions), SMALLEST))
        if self._log_factors is None:
            self._first.append(distance)
            if len(self._first) == FEWEST:
                self._begin()
            return
        outside = distance > self._log_factors
        step = self._rate * (outside - self._tails)
        self._log_factors = self._log_factors + np.where(np.isnan(distance), 0.0, step)

    def factors(self) -> Floats | None:
        """[levels, horizon], what the unit is multiplied by; none before there are FEWEST."""
        return None if self._log_factors is None else np.exp(self._log_factors)

    def _begin(self) -> None:
        with np.errstate(all="ignore"):
            seen = np.nanquantile(np.array(self._first), np.array(LEVELS) / 100, axis=0, method="weibull")
        self._log_factors = np.where(np.isnan(seen), 0.0, seen)


def spread_unit(forecast: Forecast) -> Floats:
    """What positions and factors are counted in, by step; NaN where a path is not positive or the forecast has no
    baselines. [horizon]

    Half the log width of the raw 80 % band and the std of the log close by recent returns (the baseline with EWMA), added
    as if independent: a sampler so sharp that most paths take the same token has bands of no width at all, which no factor
    could widen.
    """
    band = next(band for band in forecast.close.bands if band.level == UNIT_LEVEL)
    recent = next((one.sigma for one in forecast.baselines if one.name == RECENT), [np.nan] * len(band.lower))
    with np.errstate(invalid="ignore", divide="ignore"):
        half = (np.log(band.upper) - np.log(band.lower)) / 2
    unit: Floats = np.hypot(half, np.array(recent))
    return unit


def position(forecast: Forecast, outcome: Floats) -> Floats:
    """Where the outcome [horizon] lay: its log distance from the median in units of spread. NaN where unknown."""
    with np.errstate(invalid="ignore", divide="ignore"):
        placed = (np.log(outcome) - np.log(forecast.close.median)) / spread_unit(forecast)
    return np.where(np.isfinite(placed), placed, np.nan)


def learn(scored: Sequence[Scores], from_backtest: int = 0) -> SeriesCalibration | None:
    """From the scores of one forecaster, oldest first; none while there are fewer than FEWEST. `from_backtest`: how many of
    them a backtest made.
    """
    newest = scored[-MOST:]
    if len(newest) < FEWEST:
        return None
    tracker = BandTracker()
    for one in newest:
        tracker.observe(np.array([np.nan if place is None else place for place in one.position]))
    learned = calibration(
        len(scored),
        tracker,
        [one.upside for one in newest if one.upside],
        [one.volatility_amplification for one in newest if one.volatility_amplification],
    )
    return learned and learned.model_copy(update={"from_backtest": from_backtest})


def calibration(
    scored: int, tracker: BandTracker, upside: Sequence[EventScore], amplification: Sequence[EventScore]
) -> SeriesCalibration | None:
    """What was learned from `scored` forecasts; none while the tracker has seen fewer than FEWEST."""
    factors = tracker.factors()
    if factors is None:
        return None
    bands = [
        BandFactors(level=level, factors=[round(float(one), 6) for one in row])
        for level, row in zip(LEVELS, factors, strict=True)
    ]
    return SeriesCalibration(
        scored=scored,
        bands=bands,
        upside=fit_beta_map(upside),
        volatility_amplification=fit_beta_map(amplification),
    )


def recalibrate(forecast: Forecast, learned: SeriesCalibration) -> Recalibrated | None:
    """What the forecast becomes by what was learned; none where a path is not positive, as no price is."""
    median, unit = np.array(forecast.close.median), spread_unit(forecast)
    if not np.isfinite(unit).all() or (median <= 0).any():
        return None
    bands = []
    for one in learned.bands:
        reach = np.exp(np.array(one.factors) * unit)
        bands.append(
            Band(level=one.level, kind="quantile", lower=(median / reach).tolist(), upper=(median * reach).tolist())
        )
    amplification = forecast.volatility_amplification
    return Recalibrated(
        bands=bands,
        upside=_mapped(learned.upside, forecast.upside),
        volatility_amplification=_mapped(learned.volatility_amplification, amplification) if amplification else None,
        learned=learned,
    )


def fit_beta_map(events: Sequence[EventScore]) -> BetaMap | None:
    """The map that makes the events likeliest, less PENALTY times the squared slopes; none for fewer than FEWEST, or where
    all or none of them happened.
    """
    from scipy.optimize import minimize  # only here: a forecast does not need it

    happened = np.array([one.happened for one in events], dtype=np.float64)
    if len(events) < FEWEST or happened.min() == happened.max():
        return None
    features = _features(np.array([one.probability for one in events]))

    def loss(weights: Floats) -> tuple[float, Floats]:
        score = features @ weights
        value = np.logaddexp(0, score).sum() - happened @ score + PENALTY * (weights[:2] ** 2).sum() / 2
        slope = features.T @ (1 / (1 + np.exp(-score)) - happened) + PENALTY * weights * (1, 1, 0)
        return float(value), slope

    found = minimize(loss, (0.5, 0.5, 0.0), jac=True, method="L-BFGS-B", bounds=[(0, None), (0, None), (None, None)])
    a, b, c = (round(float(one), 6) for one in found.x)
    return BetaMap(a=a, b=b, c=c, learned_from=len(events))


def _mapped(learned: BetaMap | None, raw: Probability) -> float | None:
    if learned is None:
        return None
    score = _features(np.array([raw.value])) @ np.array([learned.a, learned.b, learned.c])
    return round(float(1 / (1 + np.exp(-score[0]))), 6)


def _features(probabilities: Floats) -> Floats:
    """ln p, -ln(1 - p) and 1, with p held away from 0 and 1, which a share of paths often is. [n, 3]"""
    held = np.clip(probabilities, CLOSEST_TO_CERTAIN, 1 - CLOSEST_TO_CERTAIN)
    return np.stack([np.log(held), -np.log1p(-held), np.ones_like(held)], axis=1)
