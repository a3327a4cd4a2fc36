"""Klines -> what the model reads, and its paths -> prices and volumes.

Normalises as the reference does, in float32: a mean or deviation computed in float64 would give other tokens. Numpy
only: knows nothing of torch, of intervals or of where klines come from.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.errors import RequestError
from shared.klines import COLUMNS
from shared.settings import SHORTEST_HISTORY, Overflow, longest_horizon

CLIP = 5.0
STD_EPSILON = np.float32(1e-5)
MILLISECONDS_PER_MINUTE = 60_000


class HorizonTooLongError(RequestError):
    """The horizon does not fit the model's context. `longest` is the longest that does, in candles."""

    def __init__(self, horizon: int, longest: int, max_context: int, why: str) -> None:
        super().__init__(
            f"A horizon of {horizon} candles does not fit a context of {max_context} ({why}): "
            f"ask for at most {longest}.",
            field="horizon",
        )
        self.longest = longest


@dataclass(frozen=True)
class Context:
    """One series as the model reads it: h candles of history, then `horizon` candles to come."""

    normalised: NDArray[np.float32]  # [h, 6], columns as in COLUMNS, clipped to [-5, 5]
    mean: NDArray[np.float32]  # [6]
    std: NDArray[np.float32]  # [6], population
    past_time_features: NDArray[np.int64]  # [h, 5]: minute, hour, weekday (Monday 0), day of month, month; UTC
    future_time_features: NDArray[np.int64]  # [horizon, 5]
    future_open_times_ms: NDArray[np.int64]  # [horizon]

    @property
    def history_used(self) -> int:
        return len(self.normalised)

    @property
    def horizon(self) -> int:
        return len(self.future_open_times_ms)

    def denormalise(self, paths: NDArray[Any]) -> NDArray[np.float64]:
        """Normalised candles [..., 6] -> candles in the units of the klines."""
        scale = (self.std + STD_EPSILON).astype(np.float64)
        return paths.astype(np.float64) * scale + self.mean.astype(np.float64)


def prepare_context(
    klines: NDArray[Any],
    open_times_ms: NDArray[np.int64],
    *,
    interval_ms: int,
    horizon: int,
    max_context: int,
    overflow: Overflow,
) -> Context:
    """klines [n, 6] in the order of COLUMNS, oldest first, and their open times [n] in ms since 1970, UTC.

    `trim` leaves the oldest history out before normalising, so that history + horizon <= max_context. `slide` keeps
    all of it, and the sampler then slides its window as the reference does. Raises HorizonTooLongError.
    """
    future = open_times_ms[-1] + interval_ms * np.arange(1, horizon + 1, dtype=np.int64)
    return context_for(klines, open_times_ms, future, max_context=max_context, overflow=overflow)


def context_for(
    klines: NDArray[Any],
    open_times_ms: NDArray[np.int64],
    future_open_times_ms: NDArray[np.int64],
    *,
    max_context: int,
    overflow: Overflow,
) -> Context:
    """Like prepare_context, for future open times [horizon] that the caller knows."""
    if klines.ndim != 2 or klines.shape[1] != len(COLUMNS) or len(klines) != len(open_times_ms) or not len(klines):
        raise ValueError(f"klines are {klines.shape} for {len(open_times_ms)} open times; [n, 6] for n was expected")
    horizon = len(future_open_times_ms)
    longest = longest_horizon(max_context, overflow)
    if horizon > longest:
        why = f"of which {SHORTEST_HISTORY} are kept for history" if overflow == "trim" else "which it would fill alone"
        raise HorizonTooLongError(horizon, longest, max_context, why)
    kept = min(len(klines), max_context - horizon) if overflow == "trim" else len(klines)
    # The order of summation matters to the last bit of float32, so the memory layout must not vary.
    candles = np.ascontiguousarray(klines[-kept:], dtype=np.float32)
    mean, std = candles.mean(axis=0), candles.std(axis=0)
    return Context(
        normalised=normalise(candles, mean, std),
        mean=mean,
        std=std,
        past_time_features=time_features(open_times_ms[-kept:]),
        future_time_features=time_features(future_open_times_ms),
        future_open_times_ms=future_open_times_ms,
    )


def normalise(candles: NDArray[np.float32], mean: NDArray[np.float32], std: NDArray[np.float32]) -> NDArray[np.float32]:
    """candles [..., 6], mean and population std [6] -> clipped to [-5, 5]; all float32."""
    normalised: NDArray[np.float32] = np.clip((candles - mean) / (std + STD_EPSILON), -CLIP, CLIP)
    return normalised


def time_features(open_times_ms: NDArray[np.int64]) -> NDArray[np.int64]:
    """[...] ms since 1970, UTC -> [..., 5]: minute, hour, weekday (Monday 0), day of month, month."""
    minutes = open_times_ms // MILLISECONDS_PER_MINUTE
    days = (minutes // (24 * 60)).astype("datetime64[D]")
    months = days.astype("datetime64[M]")
    thursday = 3  # 1970-01-01
    return np.stack(
        (
            minutes % 60,
            minutes // 60 % 24,
            (days.astype(np.int64) + thursday) % 7,
            (days - months).astype(np.int64) + 1,
            months.astype(np.int64) % 12 + 1,
        ),
        axis=-1,
    )
