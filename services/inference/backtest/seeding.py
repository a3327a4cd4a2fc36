"""A backtest's entries in the ledger, marked as such, and what a live series learns from them while it has few of its own.

What the model may have been trained on is left out: it would teach bands that are too narrow.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from redis import Redis

from services.inference.scorekeeper import learn_anew
from shared.calibration_store import CalibrationStore
from shared.ledger import Book, Ledger, LedgerEntry, book_of


@dataclass(frozen=True)
class Seeded:
    """How many of the entries are new in the ledger, in which book of it, and how many were left out as seen in training."""

    added: int
    left_out: int
    book: Book


def seed_ledger(redis: Redis, entries: Sequence[LedgerEntry]) -> Seeded:
    """Of one series and one origin, at least one. Done twice it adds nothing twice. Raises StoreUnavailableError."""
    ledger, first = Ledger(redis), entries[0]
    unseen = [entry for entry in entries if not entry.seen_in_training]
    # By what they are and not by their ids alone, which named the forecaster in another way before.
    there = {
        (one.last_open_time_ms, one.forecaster)
        for one in ledger.entries(first.symbol, first.interval, book_of(first))
        if one.made_for == "backtest"
    }
    new = [entry for entry in unseen if (entry.last_open_time_ms, entry.forecaster) not in there]
    added = sum([ledger.add(_named_by_forecaster(entry)) for entry in new])
    learn_anew(ledger, CalibrationStore(redis), first.symbol, first.interval, first.origin)
    return Seeded(added, len(entries) - len(unseen), book_of(first))


def _named_by_forecaster(entry: LedgerEntry) -> LedgerEntry:
    """Backtests of several models or settings forecast from the same moments, and each has its entries."""
    return entry.model_copy(update={"forecast_id": f"{entry.forecast_id}-{entry.forecaster}"})
