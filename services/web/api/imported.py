"""What was imported of forecasters of elsewhere, as flat rows; their record stands in the track record's answer."""

from __future__ import annotations

from flask import Response
from flask_openapi3.blueprint import APIBlueprint

from services.web.api.contracts import SeriesQuery, problems
from services.web.conditional import made_if_changed
from services.web.records import Records
from shared.imported_rows import imported_csv
from shared.settings import Settings


def add_imported(api: APIBlueprint, settings: Settings, records: Records) -> None:
    rows = {"description": "a row for each update", "content": {"text/csv": {"schema": {"type": "string"}}}}

    @api.get("/imported.csv", responses={200: rows, **problems(422)})
    def imported_as_csv(query: SeriesQuery) -> Response:
        """What forecasters of elsewhere have published of a series, as it was imported, newest first; it stands in no ledger."""
        symbol, interval = query.symbol or settings.data.symbol, query.interval or settings.data.interval

        def read() -> Response:
            response = Response(imported_csv(records.imported(symbol, interval)), mimetype="text/csv")
            response.headers["Content-Disposition"] = f'attachment; filename="imported-{symbol}-{interval}.csv"'
            return response

        return made_if_changed((symbol, interval, records.imported_version(symbol, interval)), read)
