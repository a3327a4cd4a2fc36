"""Events in paths, counted by hand beside the code that counts them."""

from __future__ import annotations

import numpy as np
import pytest

from services.web.outcomes import (
    Event,
    ends_above,
    ends_below,
    ends_within,
    probability,
    returns_above,
    returns_below,
    touches,
)

LAST_CLOSE = 100.0


def candles(*rows: tuple[float, float, float]) -> list[list[float]]:
    """One path of (high, low, close)."""
    return [[close, high, low, close, 1.0, 1.0] for high, low, close in rows]


PATHS = np.array(
    [
        candles((104, 99, 101), (103, 100, 102)),
        candles((101, 95, 96), (99, 96, 98)),
        candles((102, 98, 100), (120, 110, 115)),
        candles((101, 99, 100), (100, 80, 90)),
    ],
    dtype=np.float32,
)


@pytest.mark.parametrize(
    ("event", "step", "happens_in"),
    [
        (ends_above(100), 1, 1),
        (ends_above(100), 2, 2),
        (ends_above(102), 2, 1),
        (ends_below(100), 1, 1),
        (ends_below(100), 2, 2),
        (ends_within(98, 102), 2, 2),
        (ends_within(100, 100), 1, 2),
        (touches(103, LAST_CLOSE), 1, 1),
        (touches(103, LAST_CLOSE), 2, 2),
        (touches(105, LAST_CLOSE), 2, 1),  # leapt over: the third path's second candle begins at 110
        (touches(95, LAST_CLOSE), 1, 1),
        (touches(95, LAST_CLOSE), 2, 2),
        (touches(100, LAST_CLOSE), 1, 4),
        (returns_above(0.01, LAST_CLOSE), 2, 2),
        (returns_below(-0.05, LAST_CLOSE), 2, 1),
    ],
)
def test_an_event_is_counted_in_the_paths_in_which_it_happens(event: Event, step: int, happens_in: int) -> None:
    share = probability(event, PATHS, step)
    assert share is not None
    assert (share.paths, share.of, share.value) == (happens_in, 4, happens_in / 4)
    assert 0 <= share.lower <= share.value <= share.upper <= 1
    assert share.upper - share.lower > 0.4  # four paths say little


def test_a_path_that_is_not_finite_is_not_counted() -> None:
    broken = PATHS.copy()
    broken[0, 1, 4] = np.nan
    share = probability(ends_above(100), broken, 1)
    assert share is not None
    assert (share.paths, share.of) == (0, 3)
    broken[:, 0, 0] = np.inf
    assert probability(ends_above(100), broken, 1) is None
