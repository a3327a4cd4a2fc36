"""Plain forecasts that a model has to match before its probabilities mean anything, from the same past closes.

Each is stated in full when the forecast is made and stored with it, so that none can be fitted to what then happened:
normal ones as the std of the log close at each step, bootstraps as draws. None has a drift: fifteen days of one would be
extrapolated, which scores worse. GARCH is among them where arch is installed. Knows no model and no outcome.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from services.inference.garch import garch_spread
from shared.forecasts import Baseline

Floats = NDArray[np.float64]

EWMA_DECAY = 0.97
DRAWS = 200


@dataclass(frozen=True, eq=False)
class Baselines:
    """`stated` in the order in which they are shown; `draws` [DRAWS, horizon] are log closes less the last one, which the
    bootstraps among them scale.
    """

    stated: tuple[Baseline, ...]
    draws: NDArray[np.float16]


def state_baselines(closes: Floats, horizon: int, generator: np.random.Generator) -> Baselines:
    """closes [n + 1] for n log returns, oldest first, all positive; n at least 2."""
    returns = log_returns(closes)
    std, recent_std = float(returns.std()), ewma_std(returns)
    walked = generator.choice(returns - returns.mean(), (DRAWS, horizon)).cumsum(axis=1)
    stated = [
        Baseline(name="last_price", sigma=[0.0] * horizon),
        Baseline(name="random_walk", sigma=_walk(std, horizon)),
        Baseline(name="random_walk_ewma", sigma=_walk(recent_std, horizon)),
        Baseline(name="bootstrap", scale=1.0),
        Baseline(name="bootstrap_ewma", scale=recent_std / std if std > 0 else 1.0),
    ]
    if spread := garch_spread(returns, horizon):
        stated.append(Baseline(name="garch", sigma=spread))
    return Baselines(tuple(stated), walked.astype(np.float16))  # eleven bits are finer than 200 draws can tell


def log_returns(closes: Floats) -> Floats:
    """closes [n + 1] -> [n]."""
    return np.diff(np.log(closes))


def ewma_std(returns: Floats) -> float:
    """sqrt of the mean of squared returns, each weighing 0.97 times what the next one does (RiskMetrics 1996)."""
    weights = EWMA_DECAY ** np.arange(len(returns) - 1, -1, -1)
    return float(np.sqrt((weights * returns**2).sum() / weights.sum()))


def _walk(std: float, horizon: int) -> list[float]:
    """The std of the sum of 1, 2, ... independent log returns."""
    spread: list[float] = (std * np.sqrt(np.arange(1, horizon + 1))).tolist()
    return spread
