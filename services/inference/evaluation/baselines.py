"""Forecasts that know no pattern, which a model has to match before its probabilities mean anything.

Each takes the last closes (oldest first, n + 1 of them for n log returns), a horizon, a number of paths and a generator,
and gives closes [paths, horizon]. None has a drift: fifteen days of one would be extrapolated, which scores worse.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Baseline = Callable[[Floats, int, int, np.random.Generator], Floats]

EWMA_DECAY = 0.97


def last_price(closes: Floats, horizon: int, paths: int, generator: np.random.Generator) -> Floats:  # noqa: ARG001
    """Nothing changes: every path stays at the last close."""
    return np.full((paths, horizon), closes[-1])


def random_walk(closes: Floats, horizon: int, paths: int, generator: np.random.Generator) -> Floats:
    """Normal log returns with the std (population) of the past ones."""
    return _walk(closes[-1], generator.normal(0.0, log_returns(closes).std(), (paths, horizon)))


def random_walk_ewma(closes: Floats, horizon: int, paths: int, generator: np.random.Generator) -> Floats:
    """Normal log returns with the exponentially weighted std of the past ones."""
    return _walk(closes[-1], generator.normal(0.0, ewma_std(log_returns(closes)), (paths, horizon)))


def bootstrap(closes: Floats, horizon: int, paths: int, generator: np.random.Generator) -> Floats:
    """Past log returns less their mean, drawn with replacement."""
    return _walk(closes[-1], generator.choice(_centred(log_returns(closes)), (paths, horizon)))


def bootstrap_ewma(closes: Floats, horizon: int, paths: int, generator: np.random.Generator) -> Floats:
    """Past log returns less their mean, drawn with replacement and scaled to the exponentially weighted std."""
    returns = log_returns(closes)
    std = returns.std()
    scale = ewma_std(returns) / std if std > 0 else 1.0
    return _walk(closes[-1], generator.choice(_centred(returns), (paths, horizon)) * scale)


BASELINES: dict[str, Baseline] = {
    "last price": last_price,
    "random walk, std of the history": random_walk,
    "random walk, EWMA(0.97)": random_walk_ewma,
    "bootstrap of the history": bootstrap,
    "bootstrap scaled to EWMA": bootstrap_ewma,
}


def log_returns(closes: Floats) -> Floats:
    """closes [n + 1] -> [n]."""
    return np.diff(np.log(closes))


def ewma_std(returns: Floats) -> float:
    """sqrt of the mean of squared returns, each weighing 0.97 times what the next one does (RiskMetrics 1996)."""
    weights = EWMA_DECAY ** np.arange(len(returns) - 1, -1, -1)
    return float(np.sqrt((weights * returns**2).sum() / weights.sum()))


def _centred(returns: Floats) -> Floats:
    centred: Floats = returns - returns.mean()
    return centred


def _walk(last_close: float, returns: Floats) -> Floats:
    walked: Floats = last_close * np.exp(returns.cumsum(axis=1))
    return walked
