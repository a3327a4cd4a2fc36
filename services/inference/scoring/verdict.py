"""A forecast and what then happened -> its scores beside those of its baselines.

The story of one entry of the ledger. Knows nothing of queues and stores; how each score is computed is in `scores`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from services.inference.calibration import position
from services.inference.scoring.distributions import Ensemble, distribution_of
from services.inference.scoring.scores import covered, interval_score, pit
from shared.forecasts import Forecast
from shared.klines import CLOSE
from shared.ledger import BandScore, BaselineScore, EventScore, RecalibratedScores, Scores, Steps
from shared.statistics import LEVELS, volatility_rose

PER_LAST_CLOSE = 1e4
DIGITS = 6  # of what is stored; far below any Monte-Carlo error

Floats = NDArray[np.float64]


def score_forecast(
    forecast: Forecast,
    paths: NDArray[np.float32],
    draws: NDArray[np.float16],
    outcome: Floats,
    past_closes: Floats,
) -> Scores:
    """paths (N, horizon, 6) and draws (n, horizon) as stored; outcome (horizon,) closes, NaN where a candle is missing, at
    least one of them known; past_closes (n,) the last known ones, for the volatility before.
    """
    usable = paths[np.isfinite(paths).all(axis=(1, 2))].astype(np.float64)
    closes, scale = usable[:, :, CLOSE], PER_LAST_CLOSE / forecast.last_close
    ensemble = Ensemble(closes)
    by_step = ensemble.crps(outcome) * scale
    amplification = forecast.volatility_amplification
    return Scores(
        crps=_mean(by_step),
        crps_by_step=_steps(by_step),
        error_of_mean=_mean(np.abs(closes.mean(axis=0) - outcome) * scale),
        error_of_median=_mean(np.abs(np.median(closes, axis=0) - outcome) * scale),
        bands=[_band_score(level, ensemble.band(level), outcome, scale) for level in LEVELS],
        pit=_steps(pit(closes, outcome)),
        position=_steps(position(forecast, outcome)),
        upside=_upside(forecast.upside.value, outcome, forecast.last_close),
        volatility_amplification=_amplification(
            forecast, amplification.value if amplification else None, outcome, past_closes
        ),
        baselines=_baseline_scores(forecast, draws, outcome, scale),
        recalibrated=recalibrated_scores(forecast, outcome, past_closes),
    )


def _baseline_scores(
    forecast: Forecast, draws: NDArray[np.float16], outcome: Floats, scale: float
) -> dict[str, BaselineScore]:
    scored = {}
    for baseline in forecast.baselines:
        said = distribution_of(baseline, draws, forecast.last_close)
        upside = _upside(said.probability_above(forecast.last_close), outcome, forecast.last_close)
        scored[baseline.name] = BaselineScore(
            crps=_mean(said.crps(outcome) * scale),
            covered={level: _mean(covered(*said.band(level), outcome)) for level in LEVELS},
            upside=upside,
        )
    return scored


def recalibrated_scores(forecast: Forecast, outcome: Floats, past_closes: Floats) -> RecalibratedScores | None:
    """How what stands in `forecast.recalibrated` did; arguments as of `score_forecast`."""
    said, scale = forecast.recalibrated, PER_LAST_CLOSE / forecast.last_close
    if said is None:
        return None
    return RecalibratedScores(
        bands=[
            _band_score(band.level, (np.array(band.lower), np.array(band.upper)), outcome, scale) for band in said.bands
        ],
        upside=None if said.upside is None else _upside(said.upside, outcome, forecast.last_close),
        volatility_amplification=_amplification(forecast, said.volatility_amplification, outcome, past_closes),
    )


def _band_score(level: int, band: tuple[Floats, Floats], outcome: Floats, scale: float) -> BandScore:
    lower, upper = band
    inside = covered(lower, upper, outcome)
    return BandScore(
        level=level,
        covered=[None if np.isnan(one) else bool(one) for one in inside],
        interval_score=_mean(interval_score(lower, upper, outcome, level) * scale),
    )


def _upside(probability: float, outcome: Floats, last_close: float) -> EventScore | None:
    if np.isnan(outcome[-1]):
        return None
    return EventScore(probability=probability, happened=bool(outcome[-1] > last_close))


def _amplification(forecast: Forecast, said: float | None, outcome: Floats, past_closes: Floats) -> EventScore | None:
    """By the rule of the forecast: as many returns ahead as were compared, against as many of the last known ones."""
    compared = forecast.returns_compared
    ahead = np.concatenate(([forecast.last_close], outcome[:compared]))
    if said is None or np.isnan(ahead).any() or len(past_closes) <= compared:
        return None
    return EventScore(probability=said, happened=volatility_rose(past_closes[-compared - 1 :], ahead))


def _mean(by_step: Floats) -> float:
    return round(float(np.nanmean(by_step)), DIGITS)


def _steps(by_step: Floats) -> Steps:
    return [None if np.isnan(one) else round(float(one), 4) for one in by_step]
