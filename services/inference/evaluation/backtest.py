"""Rolling origins: at each one every forecaster sees the same past and is scored on the same closes that followed.

A forecaster is any function from an origin to a distribution of closes; that is all this file knows of models.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from services.inference.baselines import Baselines, state_baselines
from services.inference.scoring.distributions import Distribution, distribution_of
from services.inference.scoring.scores import brier, covered, interval_score
from services.inference.training.kline_files import Stretch
from shared.forecasts import BASELINE_NAMES

CLOSE = 3
LEVELS = (80, 95)
PER_LAST_CLOSE = 1e4  # errors are told in 1e-4 of the last close, so that coins and years compare

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Origin:
    """A moment to forecast from: candles known [history + 1, 6] (one more close than returns) and to come [horizon, 6],
    with their open times in UTC ms. `number` counts origins and seeds what is drawn here."""

    number: int
    known: Floats
    known_times_ms: NDArray[np.int64]
    ahead: Floats
    ahead_times_ms: NDArray[np.int64]

    @property
    def last_close(self) -> float:
        return float(self.known[-1, CLOSE])


Forecaster = Callable[[Origin], Distribution]


@dataclass(frozen=True)
class Score:
    """Means over all origins and steps. CRPS and interval scores in 1e-4 of the last close, coverage as a share."""

    origins: int
    crps: float
    crps_by_step: tuple[float, ...]
    coverage: dict[int, float]
    interval_score: dict[int, float]
    brier_up: float


def find_origins(
    stretches: Sequence[Stretch], from_ms: int, until_ms: int, every_ms: int, history: int, horizon: int
) -> Iterator[Origin]:
    """Every `every_ms` from from_ms on, a forecast whose first candle opens then and whose last closes by until_ms.

    Left out are those whose history or horizon an exchange outage cuts.
    """
    number = 0
    for stretch in stretches:
        times = stretch.open_times_ms
        first_ahead = np.flatnonzero((times >= from_ms) & ((times - from_ms) % every_ms == 0))
        for at in first_ahead[first_ahead > history].tolist():
            if at + horizon > len(stretch) or times[at + horizon - 1] >= until_ms:
                continue
            known, ahead = slice(at - history - 1, at), slice(at, at + horizon)
            yield Origin(number, stretch.values[known], times[known], stretch.values[ahead], times[ahead])
            number += 1


def baseline_forecasters(seed: int) -> dict[str, Forecaster]:
    """The baselines by name; the same seed and origin give the same draws."""

    def state(origin: Origin) -> Baselines:
        return state_baselines(origin.known[:, CLOSE], len(origin.ahead), np.random.default_rng([seed, origin.number]))

    def forecaster(name: str) -> Forecaster:
        def forecast(origin: Origin) -> Distribution:
            baselines = state(origin)
            stated = next(one for one in baselines.stated if one.name == name)
            return distribution_of(stated, baselines.draws, origin.last_close)

        return forecast

    return {name: forecaster(name) for name in BASELINE_NAMES if name != "garch"}


def run_backtest(origins: Iterable[Origin], forecasters: Mapping[str, Forecaster]) -> dict[str, Score]:
    """Score every forecaster at every origin; by name, in the order given. At least one origin is expected."""
    tallies = {name: _Tally() for name in forecasters}
    for origin in origins:
        for name, forecast in forecasters.items():
            tallies[name].add(forecast(origin), origin)
    return {name: tally.score() for name, tally in tallies.items()}


class _Tally:
    """The scores of one forecaster, origin by origin."""

    def __init__(self) -> None:
        self._crps: list[Floats] = []
        self._covered: dict[int, list[float]] = {level: [] for level in LEVELS}
        self._interval: dict[int, list[float]] = {level: [] for level in LEVELS}
        self._brier: list[float] = []

    def add(self, forecast: Distribution, origin: Origin) -> None:
        outcome = origin.ahead[:, CLOSE]
        scale = PER_LAST_CLOSE / origin.last_close
        self._crps.append(forecast.crps(outcome) * scale)
        for level in LEVELS:
            lower, upper = forecast.band(level)
            self._covered[level].append(float(covered(lower, upper, outcome).mean()))
            self._interval[level].append(float(interval_score(lower, upper, outcome, level).mean()) * scale)
        up = forecast.probability_above(origin.last_close)
        self._brier.append(brier(up, bool(outcome[-1] > origin.last_close)))

    def score(self) -> Score:
        by_step = np.mean(self._crps, axis=0)
        return Score(
            origins=len(self._crps),
            crps=float(by_step.mean()),
            crps_by_step=tuple(float(step) for step in by_step),
            coverage={level: float(np.mean(shares)) for level, shares in self._covered.items()},
            interval_score={level: float(np.mean(scores)) for level, scores in self._interval.items()},
            brier_up=float(np.mean(self._brier)),
        )
