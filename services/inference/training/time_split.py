"""Stretches of klines -> those learned from and those that validation is scored on, parted by time with a gap.

Whatever is scored in validation lies at least the gap after the last candle that is learned from, so no horizon reaches
from one into the other. What a validation forecast knows beforehand may be older: as in service.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from services.inference.training.kline_files import Stretch
from services.inference.training.windows import WindowSource
from shared.errors import KlineError
from shared.klines import Interval, utc


@dataclass(frozen=True, eq=False)
class TimeSplit:
    """Windows to learn from, and windows of `history` candles known and the rest scored."""

    learned: WindowSource
    validated: WindowSource
    until_ms: int  # the first moment that is not learned from
    validated_from_ms: int
    validated_until_ms: int

    def digest(self) -> str:
        """Names these candles and their parting: sha256, in part."""
        parts = f"{self.learned.digest()} {self.validated.digest()} {self.until_ms} {self.validated_from_ms}"
        return hashlib.sha256(parts.encode()).hexdigest()[:16]


def split_by_time(
    stretches: Sequence[Stretch],
    interval: Interval,
    *,
    until_ms: int,
    validated_until_ms: int,
    gap: int,
    window: int,
    history: int,
    horizon: int,
) -> TimeSplit:
    """Learned from: `window` candles that close by until_ms. Validated: `history` candles and then `horizon` that open from
    until_ms + gap candles on and close by validated_until_ms. Raises KlineError where one of them has no window.
    """
    from_ms = until_ms + gap * interval.ms
    learned = [stretch.between(0, until_ms) for stretch in stretches]
    validated = [stretch.between(from_ms - history * interval.ms, validated_until_ms) for stretch in stretches]
    if not any(len(stretch) >= history + horizon for stretch in validated):
        raise KlineError(
            f"No stretch without a gap has {history} candles and then {horizon} more from {utc(from_ms)} to "
            f"{utc(validated_until_ms)} to validate on: learn until an earlier day, or give later klines."
        )
    return TimeSplit(
        WindowSource(learned, window), WindowSource(validated, history + horizon), until_ms, from_ms, validated_until_ms
    )


def share_of_time(stretches: Sequence[Stretch], share: float, interval: Interval) -> int:
    """The moment, in UTC ms, before which `share` of all candles open: whole intervals."""
    times = np.sort(np.concatenate([stretch.open_times_ms for stretch in stretches]))
    return int(times[min(len(times) - 1, round(share * len(times)))]) // interval.ms * interval.ms
