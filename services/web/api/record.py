"""What became of the schedule's forecasts: the ledger's entries, and what they say together."""

from __future__ import annotations

from urllib.parse import urlencode

from flask import Response
from flask_openapi3.blueprint import APIBlueprint

from services.web.api.answers import json_answer
from services.web.api.contracts import (
    LedgerAnswer,
    LedgerPageQuery,
    LedgerQuery,
    TrackRecordAnswer,
    TrackRecordQuery,
    problems,
)
from services.web.api.exports import PARQUET
from services.web.conditional import conditional
from services.web.ledger_rows import ledger_csv, ledger_parquet
from services.web.records import Records
from shared.klines import IngestedOrigin, Interval
from shared.ledger import LedgerEntry
from shared.settings import Settings


def add_record(api: APIBlueprint, settings: Settings, records: Records) -> None:
    rows = {"description": "a row for each forecast", "content": {"text/csv": {"schema": {"type": "string"}}}}
    table = {
        "description": "a row for each forecast, the columns of the CSV",
        "content": {PARQUET: {"schema": {"type": "string", "format": "binary"}}},
    }

    def named(query: LedgerQuery | TrackRecordQuery) -> tuple[str, Interval, IngestedOrigin]:
        symbol, interval = query.symbol or settings.data.symbol, query.interval or settings.data.interval
        return symbol, interval, query.origin or records.origin_of(symbol, interval)

    def asked(query: LedgerQuery) -> list[LedgerEntry]:
        return records.page(*named(query), from_ms=query.from_ms, until_ms=query.until_ms)

    @api.get("/track-record", responses={200: TrackRecordAnswer, **problems(422)})
    def track_record(query: TrackRecordQuery) -> Response:
        """Scores of a series' forecasts beside those of plain baselines; live, recorded and simulated never mix."""
        found = records.read(*named(query), query.forecaster)
        return json_answer(TrackRecordAnswer(**dict(found)))

    @api.get("/ledger", responses={200: LedgerAnswer, **problems(422)})
    def ledger(query: LedgerPageQuery) -> Response:
        """What became of each forecast of the schedule, newest first, page by page."""
        symbol, interval, origin = named(query)
        found = records.page(
            symbol, interval, origin, from_ms=query.from_ms, until_ms=query.until_ms, newest=query.limit
        )
        following = {
            "symbol": symbol,
            "interval": interval.value,
            "origin": origin,
            "from_ms": query.from_ms,
            "limit": query.limit,
        }
        more = len(found) >= query.limit and found[-1].last_open_time_ms > query.from_ms
        address = urlencode({**following, "until_ms": found[-1].last_open_time_ms}) if more else None
        return json_answer(LedgerAnswer(entries=found, next=f"{api.url_prefix}/ledger?{address}" if address else None))

    @api.get("/ledger.csv", responses={200: rows, **problems(422)})
    def ledger_as_csv(query: LedgerQuery) -> Response:
        """The ledger as flat rows, newest first."""
        return _to_keep(Response(ledger_csv(asked(query)), mimetype="text/csv"), "ledger.csv")

    @api.get("/ledger.parquet", responses={200: table, **problems(422)})
    def ledger_as_parquet(query: LedgerQuery) -> Response:
        """The same for data frames: `pandas.read_parquet(address)`."""
        return _to_keep(Response(ledger_parquet(asked(query)), mimetype=PARQUET), "ledger.parquet")


def _to_keep(response: Response, name: str) -> Response:
    response.headers["Content-Disposition"] = f'attachment; filename="{name}"'
    return conditional(response)
