"""Walking forward through finished forecasts: each is recalibrated by what had been scored before it was made, and by
nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from services.inference.calibration import learn, recalibrate
from services.inference.scoring.verdict import recalibrated_scores
from shared.backtest_queue import Line
from shared.ledger import LedgerEntry, Scores


def walk_forward(lines: Sequence[Line], past_closes: Sequence[np.ndarray]) -> list[LedgerEntry]:
    """The entries of forecasts that were made one after the other, with their recalibrated scores.

    `lines` of one forecaster in time; `past_closes` the closes that each knew. What a forecast may learn from are those
    whose last candle had closed when its own last known one did.
    """
    entries: list[LedgerEntry] = []
    scored: list[Scores] = []
    closed = 0
    for line, known in zip(lines, past_closes, strict=True):
        forecast, entry = line.forecast, line.entry
        now_ms = forecast.open_times_ms[0]
        while closed < len(entries) and entries[closed].scored_at_ms <= now_ms:
            own = lines[closed].entry.scores
            scored += [own] if own else []
            closed += 1
        learned = learn(scored)
        said = recalibrate(forecast, learned) if learned else None
        outcome = np.array([np.nan if close is None else close for close in entry.closes])
        known_then = forecast.model_copy(update={"recalibrated": said})
        beside = recalibrated_scores(known_then, outcome, known)
        scores = entry.scores.model_copy(update={"recalibrated": beside}) if entry.scores else None
        entries.append(entry.model_copy(update={"scores": scores}))
    return entries
