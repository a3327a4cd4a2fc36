"""The ledger of a series as the page, the API and the metrics show it. A record is computed anew only when an entry was added.

Knows no HTTP.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import lru_cache
from threading import Lock

from services.web.situation import Stores
from shared.forecasts import Forecast, forecaster_of
from shared.imported_ledger import ImportedEntry
from shared.imported_record import ImportedRecord
from shared.klines import IngestedOrigin, Interval
from shared.ledger import SHOWN_BOOKS, LedgerEntry, ShownBook
from shared.series_record import SeriesRecord, imported_beside, ledger_in_use, series_record
from shared.track_record import TrackRecord

RECORDS_REMEMBERED = 256  # more than there can be series, each with a forecaster or two that are looked at

NOTHING_IMPORTED = (0, 0)
LedgerName = tuple[str, Interval, ShownBook]


class Records:
    """Reads ledgers through the stores that it is handed."""

    def __init__(self, stores: Stores) -> None:
        self._stores = stores
        self._computed = lru_cache(maxsize=RECORDS_REMEMBERED)(self._compute)
        self._imported = lru_cache(maxsize=RECORDS_REMEMBERED)(self._compute_imported)
        self._newest: dict[LedgerName, tuple[tuple[int, str], SeriesRecord]] = {}  # computed longest ago first
        self._one_looks = Lock()  # of several who want all records at once; the others wait for what that one computes

    def origin_of(self, symbol: str, interval: Interval) -> IngestedOrigin:
        """Which ledger a series' forecasts go to now; live where it is not ingested."""
        return ledger_in_use(self._stores.klines.status(symbol, interval))

    def read(
        self, symbol: str, interval: Interval, origin: ShownBook | None = None, forecaster: str | None = None
    ) -> SeriesRecord:
        """The record of a forecaster, else of the newest forecast's. Raises StoreUnavailableError."""
        named = origin or self.origin_of(symbol, interval)
        return self._computed(symbol, interval, named, forecaster, self.version((symbol, interval, named)))

    def imported(self, symbol: str, interval: Interval) -> list[ImportedEntry]:
        """What forecasters of elsewhere have said of a series, newest first. Raises StoreUnavailableError."""
        return self._stores.forecasts.imported.entries(symbol, interval)[::-1]

    def imported_version(self, symbol: str, interval: Interval) -> tuple[int, int]:
        """Another one whenever some was added or scored. Raises StoreUnavailableError."""
        return self._stores.forecasts.imported.version(symbol, interval)

    def with_imported(self, found: SeriesRecord) -> SeriesRecord:
        """The same with the records of imported forecasters beside it. Raises StoreUnavailableError."""
        version = self.imported_version(found.symbol, found.interval)
        if version == NOTHING_IMPORTED:
            return found
        name = found.symbol, found.interval, found.origin
        own = found.record.forecaster.forecaster if found.record else None
        return found.model_copy(update={"imported": self._imported(name, own, self.version(name), version)})

    def version(self, name: LedgerName) -> tuple[int, str]:
        """Another one whenever an entry was added. Raises StoreUnavailableError."""
        return self._stores.forecasts.ledger.version(*name)

    def read_all(self, names: Sequence[LedgerName], within_s: float) -> list[SeriesRecord]:
        """The record of the newest forecast's forecaster in each ledger.

        All are asked in one round trip whether anything was added. What is new is computed for about `within_s` seconds, one
        at least, that of longest ago first; what is left is told as it was, or left out, until the next look.
        """
        questions = [self._stores.forecasts.ledger.version_question(*name) for name in names]
        answers = self._stores.ask(*questions)
        versions = {name: answers[question] for name, question in zip(names, questions, strict=True)}
        with self._one_looks:
            self._catch_up(versions, time.monotonic() + within_s)
            return [self._newest[name][1] for name in names if name in self._newest]

    def _catch_up(self, versions: dict[LedgerName, tuple[int, str]], until: float) -> None:
        """Compute what is behind, at least one, until that moment of the monotonic clock."""
        order = {name: place for place, name in enumerate(self._newest)}
        behind = [name for name, version in versions.items() if self._newest.get(name, (None,))[0] != version]
        for name in sorted(behind, key=lambda name: order.get(name, -1)):
            record = self._computed(*name, None, versions[name])
            self._newest.pop(name, None)
            self._newest[name] = versions[name], record
            if time.monotonic() > until:
                return

    def of_forecast(self, forecast: Forecast) -> SeriesRecord | None:
        """The record of the forecasts that are made as this one is; none for uploads, which nobody continues."""
        request, made_by = forecast.request, forecast.provenance
        if made_by.origin == "uploaded":
            return None
        return self.read(request.symbol, request.interval, made_by.origin, forecaster_of(forecast))

    def origins(self, symbol: str, interval: Interval) -> dict[ShownBook, int]:
        """How many entries each of the series' ledgers has; those that have none are left out."""
        ledger = self._stores.forecasts.ledger
        counts = {origin: ledger.version(symbol, interval, origin)[0] for origin in SHOWN_BOOKS}
        return {origin: count for origin, count in counts.items() if count}

    def kept(self, record: TrackRecord) -> set[str]:
        """Which of the worst forecasts are still in the store, so that they can be shown."""
        return {one.forecast_id for one in record.worst if self._stores.forecasts.exists(one.forecast_id)}

    def page(
        self,
        symbol: str,
        interval: Interval,
        origin: ShownBook,
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
        self, symbol: str, interval: Interval, origin: ShownBook, forecaster: str | None, version: tuple[int, str]
    ) -> SeriesRecord:
        count, _ = version
        entries = self._stores.forecasts.ledger.entries(symbol, interval, origin) if count else []
        return series_record(symbol, interval, origin, entries, forecaster)

    def _compute_imported(
        self,
        name: LedgerName,
        forecaster: str | None,
        version: tuple[int, str],
        imported_version: tuple[int, int],  # noqa: ARG002 - it tells apart what was computed of other entries
    ) -> list[ImportedRecord]:
        symbol, interval, origin = name
        entries = self._stores.forecasts.ledger.entries(*name) if version[0] else []
        return imported_beside(forecaster, origin, entries, self._stores.forecasts.imported.entries(symbol, interval))
