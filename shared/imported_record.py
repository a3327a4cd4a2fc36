"""What the updates of imported forecasters say together, and beside ours where both spoke of the same moments.

Numpy only; knows neither stores nor pages. Only probabilities are compared, since nothing else was published.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from pydantic import Field

from shared.contract import Contract
from shared.imported_ledger import ImportedEntry
from shared.ledger import EventScore, LedgerEntry
from shared.resampling import Interval95, block_length, mean_interval
from shared.track_record import EventRecord, event_record

Pair = tuple[EventScore, EventScore]  # theirs, ours


class SharedEvent(Contract):
    """One event at the moments of which both spoke."""

    forecasts: int
    brier: float = Field(description="of the imported forecaster")
    brier_of_ours: float = Field(description="of our raw probabilities")
    always_half: float = 0.25
    always_share: float = Field(description="what the share that happened would score, said each time")
    difference: Interval95 = Field(description="brier less brier_of_ours: above 0 where ours are better")


class SharedMoments(Contract):
    """An imported forecaster beside one of ours, over the candles after which both have a scored forecast of the same
    horizon. Left out are ours of times that our model may have been trained on.
    """

    forecaster: str = Field(description="ours")
    model: str
    from_ms: int
    until_ms: int
    upside: SharedEvent
    volatility_amplification: SharedEvent | None


class ImportedRecord(Contract):
    """The record of one imported forecaster on one series. It counts for nothing else that is told of the series."""

    forecaster: str
    repository: str
    horizon: int
    updates: int
    scored: int
    from_ms: int = Field(description="open time of the last candle known to the first update, UTC ms")
    until_ms: int
    imported_at_ms: int = Field(description="when the newest of them came, UTC ms")
    klines: list[str] = Field(description="by whose candles they were scored")
    upside: EventRecord | None
    volatility_amplification: EventRecord | None
    beside: SharedMoments | None = Field(description="none where there are no moments of which both spoke")


def imported_records(
    entries: Sequence[ImportedEntry], ours: Sequence[LedgerEntry], forecaster: str | None
) -> list[ImportedRecord]:
    """One for each imported forecaster, by name; beside entries of ours, those of the `forecaster` named. Oldest first."""
    groups: dict[str, list[ImportedEntry]] = {}
    for entry in entries:
        groups.setdefault(entry.update.forecaster, []).append(entry)
    own = [entry for entry in ours if entry.forecaster == forecaster and not entry.seen_in_training]
    return [_record(groups[name], own) for name in sorted(groups)]


def _record(group: Sequence[ImportedEntry], ours: Sequence[LedgerEntry]) -> ImportedRecord:
    first, last = group[0].update, group[-1].update
    scores = [entry.scores for entry in group if entry.scores]
    return ImportedRecord(
        forecaster=last.forecaster,
        repository=last.repository,
        horizon=last.horizon,
        updates=len(group),
        scored=len(scores),
        from_ms=first.last_open_time_ms,
        until_ms=last.last_open_time_ms,
        imported_at_ms=max(entry.update.imported_at_ms for entry in group),
        klines=sorted({one.klines for one in scores}),
        upside=event_record([one.upside for one in scores]),
        volatility_amplification=event_record([one.volatility_amplification for one in scores]),
        beside=_beside(group, ours),
    )


def _beside(group: Sequence[ImportedEntry], ours: Sequence[LedgerEntry]) -> SharedMoments | None:
    by_candle = {(entry.last_open_time_ms, entry.horizon): (entry, entry.scores) for entry in ours if entry.scores}
    both = [
        (entry.scores, *own)
        for entry in group
        if entry.scores and (own := by_candle.get((entry.update.last_open_time_ms, entry.update.horizon)))
    ]
    ups = [(entry.last_open_time_ms, (theirs.upside, scores.upside)) for theirs, entry, scores in both if scores.upside]
    if not ups:
        return None
    rises = [
        (entry.last_open_time_ms, (theirs.volatility_amplification, scores.volatility_amplification))
        for theirs, entry, scores in both
        if theirs.volatility_amplification and scores.volatility_amplification
    ]
    entry = both[-1][1]
    step_ms = entry.interval.ms
    return SharedMoments(
        forecaster=entry.forecaster,
        model=entry.model,
        from_ms=ups[0][0],
        until_ms=ups[-1][0],
        upside=_shared(ups, entry.horizon, step_ms),
        volatility_amplification=_shared(rises, entry.horizon, step_ms) if rises else None,
    )


def _shared(pairs: Sequence[tuple[int, Pair]], horizon: int, step_ms: int) -> SharedEvent:
    """Of both at each moment, the oldest first."""
    briers = np.array([[theirs.brier, ours.brier] for _, (theirs, ours) in pairs])
    happened = float(np.mean([theirs.happened for _, (theirs, _) in pairs]))
    block = block_length(np.array([at_ms for at_ms, _ in pairs], dtype=np.int64), horizon, step_ms)
    return SharedEvent(
        forecasts=len(pairs),
        brier=float(briers[:, 0].mean()),
        brier_of_ours=float(briers[:, 1].mean()),
        always_share=happened * (1 - happened),
        difference=mean_interval(briers[:, 0] - briers[:, 1], block),
    )
