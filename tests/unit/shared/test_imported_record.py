"""The record of an imported forecaster, and beside ours over the moments of which both spoke."""

from __future__ import annotations

import numpy as np
import pytest

from shared.imported_ledger import ImportedEntry, ImportedScores, ImportedUpdate
from shared.imported_record import imported_records
from shared.imported_scores import KnownCloses, score_update
from shared.klines import Interval
from shared.ledger import EventScore, LedgerEntry
from tests.unit.shared.test_track_record import HORIZON, entries

HOUR_MS = 3_600_000
H1 = Interval.H1


def update(hour: int, upside: float = 0.6, *, forecaster: str = "demo (imported)", horizon: int = 24) -> ImportedUpdate:
    return ImportedUpdate(
        forecaster=forecaster,
        symbol="BTCUSDT",
        interval=H1,
        horizon=horizon,
        last_open_time_ms=hour * HOUR_MS,
        updated_at_ms=(hour + 1) * HOUR_MS + 26_000,
        upside=upside,
        volatility_amplification=0.2,
        repository="example.invalid/owner/demo",
        commit="a" * 40,
        committed_at_ms=(hour + 1) * HOUR_MS + 60_000,
        imported_at_ms=10**12 + hour,
    )


def scored(hour: int, upside: float, *, happened: bool, forecaster: str = "demo (imported)") -> ImportedEntry:
    scores = ImportedScores(
        klines="binance",
        last_close=100.0,
        close=101.0 if happened else 99.0,
        upside=EventScore(probability=upside, happened=happened),
        volatility_amplification=EventScore(probability=0.2, happened=not happened) if hour % 2 else None,
        scored_at_ms=0,
    )
    return ImportedEntry(update(hour, upside, forecaster=forecaster, horizon=HORIZON), scores)


def beside(ours: list[LedgerEntry], upside: float) -> list[ImportedEntry]:
    """Updates of the same moments, of which the same came."""
    return [
        scored(one.last_open_time_ms // HOUR_MS, upside, happened=one.scores.upside.happened)
        for one in ours
        if one.scores and one.scores.upside
    ]


def test_brier_scores_stand_beside_what_constants_would_score() -> None:
    group = [scored(hour, 0.9, happened=hour < 3) for hour in range(4)]
    unscored = ImportedEntry(update(4, horizon=HORIZON), None)
    [record] = imported_records([*group, unscored], [], None)
    assert (record.updates, record.scored, record.beside) == (5, 4, None)
    assert (record.from_ms, record.until_ms, record.imported_at_ms) == (0, 4 * HOUR_MS, 10**12 + 4)
    assert record.klines == ["binance"]
    assert record.upside
    assert record.upside.brier == pytest.approx((3 * 0.01 + 0.81) / 4)
    assert (record.upside.happened, record.upside.always_half) == (0.75, 0.25)
    assert record.upside.always_share == pytest.approx(0.75 * 0.25)
    assert record.volatility_amplification
    assert record.volatility_amplification.forecasts == 2


def test_each_imported_forecaster_has_a_record_of_its_own() -> None:
    group = [scored(0, 0.9, happened=True), scored(0, 0.1, happened=True, forecaster="another (imported)")]
    assert [(one.forecaster, one.updates) for one in imported_records(group, [], None)] == [
        ("another (imported)", 1),
        ("demo (imported)", 1),
    ]


def test_ours_are_better_where_they_know_more_and_it_is_said_with_its_interval() -> None:
    ours = entries(200, foresight=0.9)
    [record] = imported_records(beside(ours, 0.5), ours, ours[0].forecaster)
    both = record.beside
    assert both
    assert (both.upside.forecasts, both.forecaster, both.model) == (200, ours[0].forecaster, ours[0].model)
    assert both.upside.brier == pytest.approx(0.25)
    assert both.upside.brier_of_ours < 0.15
    assert both.upside.difference.lower is not None
    assert both.upside.difference.lower > 0
    assert (both.from_ms, both.until_ms) == (ours[0].last_open_time_ms, ours[-1].last_open_time_ms)


def test_only_the_same_candles_horizons_and_forecaster_are_compared_and_nothing_that_was_seen_in_training() -> None:
    ours = entries(10)
    theirs = beside(ours, 0.5)
    forecaster = ours[0].forecaster
    for others in (
        [one.model_copy(update={"horizon": HORIZON + 1}) for one in ours],
        [one.model_copy(update={"last_open_time_ms": one.last_open_time_ms + HOUR_MS}) for one in ours],
        [one.model_copy(update={"forecaster": "other"}) for one in ours],
        [one.model_copy(update={"seen_in_training": True}) for one in ours],
        [one.model_copy(update={"scores": None}) for one in ours],
    ):
        [record] = imported_records(theirs, others, forecaster)
        assert record.beside is None
    [record] = imported_records(theirs[:4], ours, forecaster)
    assert record.beside
    assert record.beside.upside.forecasts == 4
    assert record.beside.upside.difference.lower is None


def closes(count: int, *, rate: float = 0.001) -> dict[int, float]:
    """Rising ones that swing more with time, from hour -24 on."""
    hours = np.arange(count)
    values = 100 * np.exp(rate * hours + 0.0001 * hours * (-1.0) ** hours)
    return {int((hour - 24) * HOUR_MS): float(value) for hour, value in zip(hours, values, strict=True)}


def test_an_update_is_scored_by_the_first_source_that_knows_both_ends() -> None:
    known = closes(49)
    partly = {time: close for time, close in known.items() if time <= 0}
    found = score_update(update(0), [KnownCloses("okx", partly), KnownCloses("binance", known)], 7)
    assert found
    assert (found.klines, found.scored_at_ms) == ("binance", 7)
    assert found.upside == EventScore(probability=0.6, happened=True)
    assert found.volatility_amplification == EventScore(probability=0.2, happened=True)
    falling = score_update(update(0), [KnownCloses("binance", closes(49, rate=-0.01))], 7)
    assert falling
    assert not falling.upside.happened
    assert score_update(update(0), [KnownCloses("okx", partly)], 7) is None


def test_the_same_close_is_not_above_and_a_missing_candle_leaves_volatility_unsaid() -> None:
    flat = dict.fromkeys(closes(49), 100.0)
    found = score_update(update(0), [KnownCloses("binance", flat)], 7)
    assert found
    assert not found.upside.happened
    assert found.volatility_amplification == EventScore(probability=0.2, happened=False)
    for gone in (-24, 10):
        gap = {time: close for time, close in flat.items() if time != gone * HOUR_MS}
        partly = score_update(update(0), [KnownCloses("binance", gap)], 7)
        assert partly
        assert partly.volatility_amplification is None
