"""The ledger of a series as the page and the API show it. A record is computed anew only when an entry has been added.

Knows no HTTP.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from services.web.situation import Stores
from shared.klines import IngestedOrigin, Interval
from shared.ledger import LedgerEntry
from shared.track_record import ForecasterRecord, TrackRecord, forecasters, track_record

RECORDS_REMEMBERED = 64


@dataclass(frozen=True)
class SeriesRecord:
    """Of one series and origin; `entries` counts all of its ledger, `record` is none before anything is scored."""

    symbol: str
    interval: Interval
    origin: IngestedOrigin
    entries: int
    record: TrackRecord | None
    forecasters: list[ForecasterRecord]


class Records:
    """Reads ledgers through the stores that it is handed."""

    def __init__(self, stores: Stores) -> None:
        self._stores = stores
        self._computed = lru_cache(maxsize=RECORDS_REMEMBERED)(self._compute)

    def origin_of(self, symbol: str, interval: Interval) -> IngestedOrigin:
        """Which ledger a series' forecasts go to now; live where it is not ingested."""
        series = self._stores.klines.status(symbol, interval)
        return series.origin if series and series.origin else "live"  # type: ignore[return-value]

    def read(
        self, symbol: str, interval: Interval, origin: IngestedOrigin | None = None, forecaster: str | None = None
    ) -> SeriesRecord:
        """The record of a forecaster, else of the newest forecast's. Raises StoreUnavailableError."""
        named = origin or self.origin_of(symbol, interval)
        version = self._stores.forecasts.ledger.version(symbol, interval, named)
        return self._computed(symbol, interval, named, forecaster, version)

    def page(
        self,
        symbol: str,
        interval: Interval,
        origin: IngestedOrigin,
        *,
        from_ms: int,
        until_ms: int | None,
        newest: int | None = None,
    ) -> list[LedgerEntry]:
        """Up to `newest` entries and all others of the oldest one's candle, newest first."""
        ledger = self._stores.forecasts.ledger
        found = ledger.entries(symbol, interval, origin, from_ms=from_ms, until_ms=until_ms, newest=newest)
        if newest and len(found) == newest:
            first_ms = found[0].last_open_time_ms
            same = ledger.entries(symbol, interval, origin, from_ms=first_ms, until_ms=first_ms + 1)
            found = [*same, *(entry for entry in found if entry.last_open_time_ms > first_ms)]
        return found[::-1]

    def _compute(
        self, symbol: str, interval: Interval, origin: IngestedOrigin, forecaster: str | None, version: tuple[int, str]
    ) -> SeriesRecord:
        count, _ = version
        entries = self._stores.forecasts.ledger.entries(symbol, interval, origin) if count else []
        return SeriesRecord(
            symbol, interval, origin, len(entries), track_record(entries, forecaster), forecasters(entries)
        )
