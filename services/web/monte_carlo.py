"""The Monte-Carlo error of the expected return, and where it lies on the bar that the page draws. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from services.web.formats import expected_return
from shared.forecasts import Forecast
from shared.klines import CLOSE
from shared.statistics import Z_95


@dataclass(frozen=True)
class ReturnEstimate:
    """The mean return of the paths, its 95 % interval (mean ± z s / sqrt(N)), and the scale of its bar, all as shares."""

    value: float
    lower: float
    upper: float
    scale_from: float
    scale_to: float

    def place(self, value: float) -> float:
        """Where a return lies on the bar, from 0 (left) to 1."""
        width = self.scale_to - self.scale_from
        return (value - self.scale_from) / width if width else 0.5


def return_half_width(forecast: Forecast, paths: NDArray[np.float32]) -> float | None:
    """How far the 95 % interval of the mean return reaches to either side, as a share, from paths (paths, horizon, columns)
    of the forecast; None where fewer than two are finite.
    """
    usable = paths[np.isfinite(paths).all(axis=(1, 2))].astype(np.float64)
    if len(usable) < 2:
        return None
    returns = usable[:, -1, CLOSE] / forecast.last_close - 1
    return Z_95 * float(returns.std(ddof=1)) / math.sqrt(len(returns))


def return_estimate(forecast: Forecast, half_width: float) -> ReturnEstimate:
    """The bar reaches over the 80 % band of the outcomes, and over no change at all, so that the error of the mean is seen
    beside what it is the mean of.
    """
    value = expected_return(forecast)
    lower, upper = value - half_width, value + half_width
    band = next(one for one in forecast.close.bands if one.level == 80)
    ends = [edge[-1] / forecast.last_close - 1 for edge in (band.lower, band.upper)]
    return ReturnEstimate(value, lower, upper, min(0.0, lower, *ends), max(0.0, upper, *ends))
