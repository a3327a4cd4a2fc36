"""Stretches of klines -> normalised training windows, drawn by a generator that is handed in.

A window never crosses a gap and is normalised as a forecast is: mean and std come from its first `history` candles, and
the candles after those follow with the same two numbers, so nothing after the history looks back into it. Knows nothing
of tokens or losses.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from services.inference.context import normalise, time_features
from services.inference.training.kline_files import Stretch
from shared.errors import KlineError
from shared.klines import AMOUNT, CLOSE, HIGH, LOW, OPEN, VOLUME


@dataclass(frozen=True, eq=False)
class WindowBatch:
    """candles [batch, t, 6] float32, normalised and clipped; time_features [batch, t, 5] int64; history [batch] int64,
    how many candles of each window gave its mean and std."""

    candles: Tensor
    time_features: Tensor
    history: Tensor

    def to(self, device: torch.device) -> WindowBatch:
        return WindowBatch(self.candles.to(device), self.time_features.to(device), self.history.to(device))


class WindowSource:
    """Every start at which a window of `length` candles fits into a stretch, each as likely as the others."""

    def __init__(self, stretches: Sequence[Stretch], length: int) -> None:
        usable = [stretch for stretch in stretches if len(stretch) >= length]
        if not usable:
            longest = max((len(stretch) for stretch in stretches), default=0)
            raise KlineError(
                f"A window takes {length} candles without a gap, but the longest stretch has {longest}; "
                f"give more klines or a shorter window."
            )
        self.length = length
        self._values = np.concatenate([stretch.values for stretch in usable])
        self._times = np.concatenate([stretch.open_times_ms for stretch in usable])
        firsts = np.cumsum([0, *(len(stretch) for stretch in usable[:-1])])
        self._starts = np.concatenate(
            [first + np.arange(len(stretch) - length + 1) for first, stretch in zip(firsts, usable, strict=True)]
        )

    def __len__(self) -> int:
        """How many different windows there are."""
        return len(self._starts)

    def digest(self) -> str:
        """sha256 of all candles and of the windows' length."""
        found = hashlib.sha256(str(self.length).encode())
        for rows in (self._times, self._values):
            found.update(np.ascontiguousarray(rows).tobytes())
        return found.hexdigest()

    def draw(
        self, generator: np.random.Generator, count: int, history: tuple[int, int], mirrored: float = 0.0
    ) -> WindowBatch:
        """`count` windows; the history of each is drawn evenly from `history` (shortest, longest), both included. A share of
        `mirrored` shows the price of the quote currency in the base one: what rose falls.
        """
        starts = self._starts[generator.integers(len(self._starts), size=count)]
        histories = generator.integers(history[0], history[1] + 1, size=count)
        mirror = generator.random(count) < mirrored if mirrored else np.zeros(count, dtype=bool)
        return self._batch(starts, histories, mirror)

    def evenly(self, count: int, history: int) -> WindowBatch:
        """`count` windows spread evenly over all starts, for measuring: the same ones every time."""
        return next(self.in_batches(count, history, count))

    def in_batches(self, count: int, history: int, size: int) -> Iterator[WindowBatch]:
        """The windows of `evenly`, `size` at a time."""
        picks = np.linspace(0, len(self._starts) - 1, min(count, len(self._starts))).astype(np.int64)
        for first in range(0, len(picks), size):
            starts = self._starts[picks[first : first + size]]
            yield self._batch(starts, np.full(len(starts), history))

    def _batch(
        self, starts: NDArray[np.int64], histories: NDArray[np.int64], mirror: NDArray[np.bool_] | None = None
    ) -> WindowBatch:
        rows = starts[:, None] + np.arange(self.length)
        windows = self._values[rows]
        for place in np.flatnonzero(mirror) if mirror is not None else ():
            windows[place] = mirrored_window(windows[place])
        candles = np.stack(
            [normalise_window(window, int(size)) for window, size in zip(windows, histories, strict=True)]
        )
        return WindowBatch(
            torch.from_numpy(candles), torch.from_numpy(time_features(self._times[rows])), torch.from_numpy(histories)
        )


def mirrored_window(window: NDArray[np.float64]) -> NDArray[np.float64]:
    """window (t, 6) with each price p as first_open^2 / p, so that log returns change their sign and nothing else; the
    amount follows the price."""
    mirrored = window.copy()
    mirrored[:, [OPEN, HIGH, LOW, CLOSE]] = window[0, OPEN] ** 2 / window[:, [OPEN, LOW, HIGH, CLOSE]]
    mirrored[:, AMOUNT] *= mirrored[:, :VOLUME].mean(axis=1) / window[:, :VOLUME].mean(axis=1)
    return mirrored


def normalise_window(window: NDArray[np.float64], history: int) -> NDArray[np.float32]:
    """window (t, 6), normalised as a forecast is: by its first `history` rows."""
    candles = window.astype(np.float32)
    seen = candles[:history]
    return normalise(candles, seen.mean(axis=0), seen.std(axis=0))
