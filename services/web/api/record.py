"""What became of the schedule's forecasts: the ledger's entries, and what they say together."""

from __future__ import annotations

from collections.abc import Callable
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
from services.web.conditional import made_if_changed
from services.web.records import LedgerName, Records
from shared.errors import RequestError
from shared.ledger import LedgerEntry
from shared.ledger_rows import ledger_csv, ledger_parquet
from shared.series_record import require_forecaster
from shared.settings import Settings


def add_record(api: APIBlueprint, settings: Settings, records: Records) -> None:
    rows = {"description": "a row for each forecast", "content": {"text/csv": {"schema": {"type": "string"}}}}
    table = {
        "description": "a row for each forecast, the columns of the CSV",
        "content": {PARQUET: {"schema": {"type": "string", "format": "binary"}}},
    }

    def named(query: LedgerQuery | TrackRecordQuery) -> LedgerName:
        symbol, interval = query.symbol or settings.data.symbol, query.interval or settings.data.interval
        return symbol, interval, query.origin or records.origin_of(symbol, interval)

    def answered(query: LedgerQuery, make: Callable[[LedgerName, list[LedgerEntry]], Response]) -> Response:
        """Made of the entries that are asked for, unless whoever asks has that already."""
        if query.until_ms is not None and query.until_ms <= query.from_ms:
            raise RequestError(
                f"until_ms is {query.until_ms}, but allowed is a moment after from_ms, which is {query.from_ms}.",
                field="until_ms",
            )
        name = named(query)

        def read() -> Response:
            found = records.page(*name, from_ms=query.from_ms, until_ms=query.until_ms, newest=query.limit)
            return make(name, found)

        return made_if_changed((name, records.version(name)), read)

    @api.get("/track-record", responses={200: TrackRecordAnswer, **problems(404, 422)})
    def track_record(query: TrackRecordQuery) -> Response:
        """Scores of a series' forecasts beside those of plain baselines; live, recorded, simulated and what a backtest made on
        candles of a venue never mix. What was imported of forecasters of elsewhere stands apart, in `imported`.
        """
        found = records.read(*named(query), query.forecaster)
        require_forecaster(found, query.forecaster)
        return json_answer(TrackRecordAnswer(**dict(records.with_imported(found))))

    @api.get("/ledger", responses={200: LedgerAnswer, **problems(422)})
    def ledger(query: LedgerPageQuery) -> Response:
        """What became of each forecast of the schedule, newest first, page by page."""

        def page(name: LedgerName, found: list[LedgerEntry]) -> Response:
            following = {
                **dict(zip(("symbol", "interval", "origin"), map(str, name), strict=True)),
                "from_ms": query.from_ms,
                "limit": query.limit,
            }
            more = len(found) >= query.limit and found[-1].last_open_time_ms > query.from_ms
            address = urlencode({**following, "until_ms": found[-1].last_open_time_ms}) if more else None
            answer = LedgerAnswer(entries=found, next=f"{api.url_prefix}/ledger?{address}" if address else None)
            return Response(answer.model_dump_json(), mimetype="application/json")

        return answered(query, page)

    @api.get("/ledger.csv", responses={200: rows, **problems(422)})
    def ledger_as_csv(query: LedgerQuery) -> Response:
        """The ledger as flat rows, newest first."""
        return answered(
            query, lambda name, found: _to_keep(Response(ledger_csv(found), mimetype="text/csv"), name, "csv")
        )

    @api.get("/ledger.parquet", responses={200: table, **problems(422)})
    def ledger_as_parquet(query: LedgerQuery) -> Response:
        """The same for data frames: `pandas.read_parquet(address)`."""
        return answered(
            query, lambda name, found: _to_keep(Response(ledger_parquet(found), mimetype=PARQUET), name, "parquet")
        )


def _to_keep(response: Response, name: LedgerName, suffix: str) -> Response:
    response.headers["Content-Disposition"] = f'attachment; filename="ledger-{"-".join(map(str, name))}.{suffix}"'
    return response
