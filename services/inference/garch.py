"""GARCH(1,1) of the past returns: what an econometrician would ask first how far a price may move.

The fit is arch's, which is optional (the extra `garch`); where it is not installed none is stated. The mean is
zero, as in all baselines. Innovations are normal: Student's t and an asymmetric term scored worse on BTC, ETH and SOL, October
2023 to December 2024, at 64 and at 360 candles.
"""

from __future__ import annotations

from importlib.util import find_spec

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def load() -> bool:
    """Whether arch is installed; the first call takes the second that its import takes."""
    if find_spec("arch") is None:
        return False
    import arch.univariate  # noqa: F401

    return True


def garch_spread(returns: Floats, horizon: int) -> list[float] | None:
    """returns [n] -> std of the log close at each step, [horizon]: the root of the summed variances that are forecast.

    None where arch is not installed, where no return differs from another, and where the fit did not converge.
    """
    if not load() or returns.std() == 0:
        return None
    from arch.univariate import GARCH, ZeroMean

    scale = 1 / returns.std()  # the optimiser is made for returns about 1
    fitted = ZeroMean(returns * scale, volatility=GARCH(p=1, q=1), rescale=False).fit(disp="off", show_warning=False)
    variances = fitted.forecast(horizon=horizon, reindex=False).variance.to_numpy()[-1]
    if fitted.convergence_flag != 0 or not np.isfinite(variances).all():
        return None
    spread: list[float] = (np.sqrt(variances.cumsum()) / scale).tolist()
    return spread
