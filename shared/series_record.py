"""The record of one series and origin, as every door tells it: the API, the pages, the command line and the Python client."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from pydantic import Field

from shared.contract import Contract
from shared.errors import NotFoundError
from shared.imported_ledger import ImportedEntry
from shared.imported_record import ImportedRecord, imported_records
from shared.kline_store import SeriesStatus
from shared.klines import IngestedOrigin, Interval
from shared.ledger import LedgerEntry, ShownBook
from shared.track_record import ForecasterRecord, TrackRecord, forecasters, track_record

COMPARED: tuple[ShownBook, ...] = ("live", "backtest")  # books of forecasts on a venue's candles


class SeriesRecord(Contract):
    """What the ledger of one series and origin says together."""

    symbol: str
    interval: Interval
    origin: ShownBook
    entries: int = Field(description="in the ledger, all forecasters together")
    record: TrackRecord | None = Field(description="none before a forecast was scored")
    forecasters: list[ForecasterRecord] = Field(description="each way of forecasting that was scored, the newest first")
    imported: list[ImportedRecord] = Field(
        default_factory=list, description="of forecasters of elsewhere, which count for nothing above"
    )

    @property
    def scored(self) -> int:
        """Forecasts that were scored, all forecasters together."""
        return sum(one.forecasts for one in self.forecasters)


def ledger_in_use(series: SeriesStatus | None) -> IngestedOrigin:
    """Which ledger a series' forecasts go to now; live where it is not ingested."""
    return cast("IngestedOrigin", series.origin) if series and series.origin else "live"


def require_forecaster(found: SeriesRecord, forecaster: str | None) -> None:
    """Raises NotFoundError where a forecaster was asked for that is not among those of a ledger which has some."""
    if forecaster and found.forecasters and found.record is None:
        known = ", ".join(f"{one.forecaster} ({one.model})" for one in found.forecasters)
        raise NotFoundError(
            f"There is no forecaster {forecaster[:40]!r} in the ledger of {found.origin} {found.symbol} {found.interval}; "
            f"known are {known}.",
            field="forecaster",
        )


def imported_beside(
    forecaster: str | None,
    origin: ShownBook,
    entries: Sequence[LedgerEntry],
    imported: Sequence[ImportedEntry],
) -> list[ImportedRecord]:
    """The records of imported forecasters, beside those of the entries that are of `forecaster`. Only what was made on a venue's
    candles is compared with them: others' markets are not theirs.
    """
    return imported_records(imported, entries if origin in COMPARED else (), forecaster)


def series_record(
    symbol: str,
    interval: Interval,
    origin: ShownBook,
    entries: Sequence[LedgerEntry],
    forecaster: str | None = None,
    imported: Sequence[ImportedEntry] = (),
) -> SeriesRecord:
    """Of the entries of a ledger, oldest first; the record is that of the forecaster named, else of the newest forecast's.
    Beside it those of imported forecasters, if their entries are given.
    """
    record = track_record(entries, forecaster)
    return SeriesRecord(
        symbol=symbol,
        interval=interval,
        origin=origin,
        entries=len(entries),
        record=record,
        forecasters=forecasters(entries),
        imported=imported_beside(record.forecaster.forecaster if record else None, origin, entries, imported),
    )
