"""Sampled paths -> bands per step, and probabilities with their Monte-Carlo error. Numpy only.

A path with a number that is not finite cannot be summarised: it is left out of every statistic here and counted in
`defects`, never repaired. All other defects are counted too, and such paths stay in as they were drawn. Knows nothing
of how paths come about.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from shared.klines import AMOUNT, CLOSE, COLUMNS, HIGH, LOW, OPEN, VOLUME

LEVELS = (50, 80, 95)
Z_95 = 1.959963984540054  # standard normal quantile of 0.975

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Band:
    """Per step, the range that should hold the outcome with probability `level` percent.

    kind `range`: the paths are too few for that quantile, and the band is their minimum and maximum.
    """

    level: int
    kind: Literal["quantile", "range"]
    lower: Floats  # [horizon]
    upper: Floats  # [horizon]


@dataclass(frozen=True)
class StepSummary:
    """One column at each step of the horizon; arrays [horizon], NaN where no path is finite."""

    mean: Floats
    median: Floats
    minimum: Floats
    maximum: Floats
    bands: tuple[Band, ...]  # in the order of LEVELS


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
class PathStatistics:
    paths: int  # how many there are, defective ones included
    columns: dict[str, StepSummary]  # by name, as in COLUMNS
    upside: Share | None  # none where no path can be counted
    volatility_amplification: Share | None  # none also for one step or one known return, which have no deviation
    returns_compared: int  # log returns on either side of the volatility comparison
    defects: dict[str, int]  # paths that break reality, by kind; "any" counts those with at least one


def summarise(paths: Floats, past_closes: Floats, volatility_window: int) -> PathStatistics:
    """paths [N, horizon, 6] in the units of the klines, past_closes [n] oldest first, the last known close at the end.

    volatility_window: how many of the last known log returns count as the past.
    """
    usable = paths[np.isfinite(paths).all(axis=(1, 2))]
    closes, last_close = usable[:, :, CLOSE], float(past_closes[-1])
    amplified, returns_compared = _volatility_amplified(closes, past_closes, volatility_window)
    return PathStatistics(
        paths=len(paths),
        columns={name: summarise_steps(usable[:, :, column]) for column, name in enumerate(COLUMNS)},
        upside=upside_share(paths, last_close),
        volatility_amplification=_share(amplified),
        returns_compared=returns_compared,
        defects=count_defects(paths),
    )


def upside_share(paths: Floats, last_close: float) -> Share | None:
    """How many of paths [N, horizon, 6] end above the last known close; none where no path is finite."""
    usable = paths[np.isfinite(paths).all(axis=(1, 2))]
    return _share(usable[:, -1, CLOSE] > last_close)


def paths_needed(share: Share, target_error: float) -> int:
    """How many paths, if the share stays as it is, have a Wilson half-width of at most `target_error` (above 0): the
    fewest, by bisection, since the half-width falls as paths are added.
    """
    too_few, enough = 0, 1
    while _wilson_half_width(share.value, enough) > target_error:
        too_few, enough = enough, 2 * enough
    while enough - too_few > 1:
        middle = (enough + too_few) // 2
        if _wilson_half_width(share.value, middle) > target_error:
            too_few = middle
        else:
            enough = middle
    return enough


def summarise_steps(values: Floats) -> StepSummary:
    """values [N, horizon], finite."""
    if not len(values):
        nothing = np.full(values.shape[1], np.nan)
        return StepSummary(
            nothing, nothing, nothing, nothing, tuple(Band(k, "range", nothing, nothing) for k in LEVELS)
        )
    return StepSummary(
        mean=values.mean(axis=0),
        median=np.median(values, axis=0),
        minimum=values.min(axis=0),
        maximum=values.max(axis=0),
        bands=tuple(quantile_band(values, level) for level in LEVELS),
    )


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


def wilson_share(paths: int, of: int) -> Share:
    """The 95 % score interval of a share (Wilson 1927), so that 0 of 30 is not certainty. `of` is at least 1."""
    share, half_width = paths / of, _wilson_half_width(paths / of, of)
    centre = (share + Z_95**2 / (2 * of)) / (1 + Z_95**2 / of)
    # At 0 and at `of` the ends are exactly 0 and 1; rounding must not say otherwise.
    lower = 0.0 if paths == 0 else centre - half_width
    upper = 1.0 if paths == of else centre + half_width
    return Share(share, lower, upper, paths, of)


def _wilson_half_width(share: float, of: int) -> float:
    return Z_95 * math.sqrt(share * (1 - share) / of + Z_95**2 / (4 * of**2)) / (1 + Z_95**2 / of)


def count_defects(paths: Floats) -> dict[str, int]:
    """paths [N, horizon, 6] -> how many of them break reality at any step, by kind. Comparisons with NaN are false."""
    open_, high, low, close = (paths[:, :, column] for column in (OPEN, HIGH, LOW, CLOSE))
    broken = {
        "non_finite": ~np.isfinite(paths).all(axis=2),
        "non_positive_price": np.any(paths[:, :, : CLOSE + 1] <= 0, axis=2),
        "negative_volume": paths[:, :, VOLUME] < 0,
        "negative_amount": paths[:, :, AMOUNT] < 0,
        "high_below_low": high < low,
        "high_below_open_or_close": (high < open_) | (high < close),
        "low_above_open_or_close": (low > open_) | (low > close),
    }
    by_path = {kind: steps.any(axis=1) for kind, steps in broken.items()}
    by_path["any"] = np.logical_or.reduce(list(by_path.values()))
    return {kind: int(flags.sum()) for kind, flags in by_path.items()}


def _volatility_amplified(closes: Floats, past_closes: Floats, volatility_window: int) -> tuple[NDArray[np.bool_], int]:
    """Whether each path's log returns deviate more (ddof 1) than as many of the last known ones; and how many those are.

    Equal numbers of returns on both sides: n = min(horizon, volatility_window, known returns). The path's first n are
    compared, the step from the last known close included, so with the usual 24 and 24 it is the whole horizon. Paths
    whose close is not positive have no log return and are not counted.
    """
    compared = min(closes.shape[1], volatility_window, len(past_closes) - 1)
    if compared < 2:
        return np.zeros(0, dtype=np.bool_), compared
    ahead = closes[(closes[:, :compared] > 0).all(axis=1), :compared]
    from_last = np.concatenate((np.full((len(ahead), 1), past_closes[-1]), ahead), axis=1)
    future = np.diff(np.log(from_last), axis=1).std(axis=1, ddof=1)
    past = np.diff(np.log(past_closes[-compared - 1 :])).std(ddof=1)
    return future > past, compared


def _share(flags: NDArray[np.bool_]) -> Share | None:
    return wilson_share(int(flags.sum()), len(flags)) if len(flags) else None
