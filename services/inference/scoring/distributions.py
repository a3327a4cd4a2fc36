"""What a forecast says of the close at each step, in the two forms that it comes in: as paths, or as a formula.

Both answer the same questions, so a model and its baselines are scored by one story. Everything is [horizon], in the
units of the klines. Knows no model.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist
from typing import Protocol

import numpy as np
import scoringrules
from numpy.typing import NDArray

from services.inference.scoring.scores import crps
from shared.forecasts import Baseline
from shared.statistics import quantile_band

Floats = NDArray[np.float64]


class Distribution(Protocol):
    """Of the close at each step. An outcome may be NaN where it is not known, and then so is what is said of it."""

    def crps(self, outcome: Floats) -> Floats:
        """The continuous ranked probability score at each step; of paths the fair one."""
        ...

    def band(self, level: int) -> tuple[Floats, Floats]:
        """The lower and upper end of the central band of `level` percent."""
        ...

    def probability_above(self, price: float) -> float:
        """That the last step's close lies above `price`."""
        ...


@dataclass(frozen=True, eq=False)
class Ensemble:
    """paths [N, horizon], finite."""

    paths: Floats

    def crps(self, outcome: Floats) -> Floats:
        return crps(self.paths, outcome)

    def band(self, level: int) -> tuple[Floats, Floats]:
        band = quantile_band(self.paths, level)
        return band.lower, band.upper

    def probability_above(self, price: float) -> float:
        return float((self.paths[:, -1] > price).mean())


@dataclass(frozen=True, eq=False)
class Lognormal:
    """The log close at each step is normal about the last one's, with std `sigma` [horizon]; 0 says that nothing moves."""

    last_close: float
    sigma: Floats

    def crps(self, outcome: Floats) -> Floats:
        """By the closed form of scoringrules (Baran and Lerch 2015), and the plain error where sigma is 0."""
        still = self.sigma == 0
        spread = np.where(still, 1.0, self.sigma)
        scored = scoringrules.crps_lognormal(outcome, np.log(self.last_close), spread)
        return np.where(still, np.abs(outcome - self.last_close), scored)

    def band(self, level: int) -> tuple[Floats, Floats]:
        reach = NormalDist().inv_cdf(0.5 + level / 200) * self.sigma
        return self.last_close * np.exp(-reach), self.last_close * np.exp(reach)

    def probability_above(self, price: float) -> float:
        if self.sigma[-1] == 0:
            return float(self.last_close > price)
        return NormalDist().cdf(np.log(self.last_close / price) / self.sigma[-1])


def distribution_of(baseline: Baseline, draws: NDArray[np.float16], last_close: float) -> Distribution:
    """What a baseline said; draws [N, horizon] are those stored with it."""
    if baseline.sigma is not None:
        return Lognormal(last_close, np.array(baseline.sigma))
    return Ensemble(last_close * np.exp((baseline.scale or 1.0) * draws.astype(np.float64)))
