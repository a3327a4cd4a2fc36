"""/track-record: what became of a series' forecasts, in tables and one sentence on top that claims no more than they bear."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flask import Blueprint, Response, make_response, render_template, request

from services.web.api.contracts import ORIGIN
from services.web.conditional import conditional
from services.web.notices import drift_notices
from services.web.record_charts import record_charts
from services.web.records import Records
from services.web.scripts import modules_of
from services.web.situation import Stores
from services.web.verdict import verdict
from services.web.wording import say
from shared.errors import NotFoundError
from shared.freshness import as_of
from shared.klines import Interval
from shared.ledger import SHOWN_BOOKS, ShownBook
from shared.series_record import COMPARED, SeriesRecord, require_forecaster
from shared.track_record import TrackRecord

RECORD_MODULES = modules_of("record.js")


def add_record_page(
    pages: Blueprint,
    stores: Stores,
    records: Records,
    series_asked_for: Callable[[], tuple[str, Interval]],
    now_ms: Callable[[], int],
) -> None:
    @pages.get("/track-record")
    def track_record() -> Response:
        symbol, interval = series_asked_for()
        origin, forecaster = _origin_asked_for(), request.args.get("forecaster")
        found = records.read(symbol, interval, origin, forecaster)
        require_forecaster(found, forecaster)
        found = records.with_imported(found)
        shown = {
            "symbol": symbol,
            "interval": interval,
            "record_modules": RECORD_MODULES,
            "series": _series(stores, found, origin, now_ms()),
            "origins": records.origins(symbol, interval),
            "kept": records.kept(found.record) if found.record else set(),
            **record_page(found),
        }
        return conditional(make_response(render_template("track_record.html", **shown)))


def record_page(found: SeriesRecord) -> dict[str, Any]:
    """What the template shows of a record."""
    record = found.record
    return {
        "found": found,
        "verdict": verdict(found),
        "drift": drift_notices(record),
        "band_titles": _band_titles(record) if record else [],
        "events": _events(record) if record else [],
        "charts": record_charts(record, say) if record else [],
        "compared": found.origin in COMPARED,
        "trials": {one.forecaster: one for one in record.trials} if record else {},
    }


def _origin_asked_for() -> ShownBook | None:
    """Raises NotFoundError where the address names none that has a ledger."""
    origin = request.args.get("origin")
    if origin is not None and origin not in SHOWN_BOOKS:
        raise NotFoundError(f"origin is {origin[:40]!r}, but allowed is {ORIGIN}.")
    return origin


def _series(stores: Stores, found: SeriesRecord, asked_for: ShownBook | None, now_ms: int) -> list[dict[str, Any]]:
    """The series that are ingested, each with the origin that its link leads to: the one asked for stays asked for."""
    known = sorted(stores.klines.all_statuses(), key=lambda one: (one.symbol, one.interval))
    return [
        {
            "symbol": one.symbol,
            "interval": one.interval,
            "origin": asked_for or as_of(one, now_ms).origin,
            "shown": (one.symbol, one.interval) == (found.symbol, found.interval),
        }
        for one in known
    ]


def _band_titles(record: TrackRecord) -> list[str]:
    """Raw ones, and beside them the recalibrated ones, where there are some."""
    kinds = ("chart.band", "chart.band_recalibrated") if record.recalibrated else ("chart.band",)
    return [say(kind, level=band.level) for kind in kinds for band in record.bands]


def _events(record: TrackRecord) -> list[tuple[str, object, object]]:
    """The key of an event's title, what was said of it, and what the recalibrated probabilities said."""
    beside = record.recalibrated
    return [
        ("record.upside", record.upside, beside.upside if beside else None),
        ("record.amplification", record.volatility_amplification, beside.volatility_amplification if beside else None),
    ]
