"""Sampled paths -> bands per step, and probabilities with their Monte-Carlo error. Numpy only.

A path with a number that is not finite cannot be summarised: it is left out of every statistic here and counted in
`defects`, never repaired. All other defects are counted too, and such paths stay in as they were drawn. Knows nothing
of how paths come about.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shared.klines import AMOUNT, CLOSE, COLUMNS, HIGH, LOW, OPEN, VOLUME
from shared.statistics import LEVELS, Band, Floats, Share, quantile_band, wilson_half_width, wilson_share


@dataclass(frozen=True)
class StepSummary:
    """One column at each step of the horizon; arrays [horizon], NaN where no path is finite."""

    mean: Floats
    median: Floats
    minimum: Floats
    maximum: Floats
    bands: tuple[Band, ...]  # in the order of LEVELS


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
    while wilson_half_width(share.value, enough) > target_error:
        too_few, enough = enough, 2 * enough
    while enough - too_few > 1:
        middle = (enough + too_few) // 2
        if wilson_half_width(share.value, middle) > target_error:
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
