"""The rules of statistics that every room keeps to: the Wilson interval of a share, quantiles by the Weibull rule, and when
volatility has risen.

Numpy only. Knows nothing of forecasts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

import numpy as np
from numpy.typing import NDArray

LEVELS = (50, 80, 95)  # percent, of the bands that every forecast has
Z_95 = 1.959963984540054  # standard normal quantile of 0.975

Floats = NDArray[np.float64]
QuantileKind = Literal["quantile", "range"]


@dataclass(frozen=True)
class Share:
    """`paths` of `of` paths, with the 95 % Wilson interval of that share."""

    value: float
    lower: float
    upper: float
    paths: int
    of: int

    @property
    def half_width(self) -> float:
        return (self.upper - self.lower) / 2


@dataclass(frozen=True)
class Band:
    """Per step, the range that should hold the outcome with probability `level` percent.

    kind `range`: the paths are too few for that quantile, and the band is their minimum and maximum.
    """

    level: int
    kind: QuantileKind
    lower: Floats  # [horizon]
    upper: Floats  # [horizon]


@dataclass(frozen=True)
class QuantileLine:
    """Per step, what the outcome should stay below with probability `quantile`.

    kind `range`: the paths are too few for that quantile, and the line is their minimum or maximum.
    """

    quantile: float
    kind: QuantileKind
    values: Floats  # [horizon]


def wilson_share(paths: int, of: int) -> Share:
    """The 95 % score interval of a share (Wilson 1927), so that 0 of 30 is not certainty. `of` is at least 1."""
    share, half_width = paths / of, wilson_half_width(paths / of, of)
    centre = (share + Z_95**2 / (2 * of)) / (1 + Z_95**2 / of)
    # At 0 and at `of` the ends are exactly 0 and 1; rounding must not say otherwise.
    lower = 0.0 if paths == 0 else centre - half_width
    upper = 1.0 if paths == of else centre + half_width
    return Share(share, lower, upper, paths, of)


def volatility_rose(before: Floats, after: Floats) -> bool:
    """Whether the log returns of closes [n + 1] after a moment vary more than those before it: the close of that moment is the
    last of the ones and the first of the others.
    """
    return bool(np.diff(np.log(after)).std(ddof=1) > np.diff(np.log(before)).std(ddof=1))


def wilson_half_width(share: float, of: int) -> float:
    return Z_95 * math.sqrt(share * (1 - share) / of + Z_95**2 / (4 * of**2)) / (1 + Z_95**2 / of)


def quantile_band(values: Floats, level: int) -> Band:
    """values [N, horizon] -> the central band of `level` percent by the Weibull rule, the k-th of N at k / (N + 1).

    That rule reaches beyond the outermost of N paths where (1 - level) / 2 * (N + 1) < 1, for 95 % below 39 paths. The
    band is then the range of the paths, and is called that.
    """
    tail = (100 - level) / 200
    # In whole numbers, because 0.025 * 40 is not exactly 1.
    if (100 - level) * (len(values) + 1) < 200:
        return Band(level, "range", values.min(axis=0), values.max(axis=0))
    lower, upper = np.quantile(values, (tail, 1 - tail), axis=0, method="weibull")
    return Band(level, "quantile", lower, upper)


def quantile_lines(values: Floats, quantiles: Sequence[Fraction]) -> list[QuantileLine]:
    """values [N, horizon], N at least 1 -> a line for each quantile (above 0, below 1) by the rule of `quantile_band`.

    Exact fractions, so that 0.025 of 39 paths is the outermost of them and not beyond.
    """
    lines = np.quantile(values, [float(quantile) for quantile in quantiles], axis=0, method="weibull")
    return [
        QuantileLine(float(quantile), "quantile" if 1 <= quantile * (len(values) + 1) <= len(values) else "range", line)
        for quantile, line in zip(quantiles, lines, strict=True)
    ]
