"""/track-record: what became of a series' forecasts, in tables and one sentence on top that claims no more than they bear."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast, get_args

from flask import Blueprint, Response, make_response, render_template, request

from services.web.api.contracts import ORIGIN
from services.web.conditional import conditional
from services.web.formats import signed_percent
from services.web.languages import Saying
from services.web.record_charts import record_charts
from services.web.records import Records
from services.web.situation import Stores
from services.web.wording import say
from shared.errors import NotFoundError
from shared.freshness import as_of
from shared.klines import IngestedOrigin, Interval
from shared.series_record import SeriesRecord, require_forecaster
from shared.track_record import TrackRecord

INGESTED_ORIGINS = get_args(IngestedOrigin)
TONES = {"none": "waiting", "few": "waiting", "edge": "live", "no_edge": "past", "worse": "stale"}


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
        origin, forecaster = request.args.get("origin"), request.args.get("forecaster")
        if origin is not None and origin not in INGESTED_ORIGINS:
            raise NotFoundError(f"origin is {origin[:40]!r}, but allowed is {ORIGIN}.")
        found = records.read(symbol, interval, cast("IngestedOrigin | None", origin), forecaster)
        require_forecaster(found, forecaster)
        now = now_ms()
        known = [as_of(one, now) for one in stores.klines.all_statuses()]
        shown = {"symbol": symbol, "interval": interval, "known_series": known, **record_page(found)}
        return conditional(make_response(render_template("track_record.html", **shown)))


def record_page(found: SeriesRecord) -> dict[str, Any]:
    """What the template shows."""
    record = found.record
    verdict = _verdict(record)
    return {
        "found": found,
        "verdict": verdict,
        "tone": TONES[verdict],
        "sentence": [_sentence(found, verdict)],
        "band_titles": [say("chart.band", level=band.level) for band in record.bands] if record else [],
        "events": _events(record) if record else [],
        "charts": record_charts(record, say) if record else [],
    }


def _verdict(record: TrackRecord | None) -> str:
    if record is None:
        return "none"
    return {"too few": "few", "no edge": "no_edge"}.get(record.verdict, record.verdict)


def _sentence(found: SeriesRecord, verdict: str) -> Saying:
    record = found.record
    if record is None:
        return Saying("record.none_text", {"symbol": found.symbol, "interval": found.interval})
    skill = record.skill
    if verdict == "few" or skill.lower is None or skill.upper is None:
        return Saying("record.few_text", {"n": record.forecasts, "fewest": record.needed})
    told = {"skill": skill.value, "lower": skill.lower, "upper": skill.upper}
    baseline = say(f"baseline.{record.best_baseline}")
    numbers = {name: signed_percent(value) for name, value in told.items()}
    return Saying("record.skill_text", {"n": record.forecasts, "baseline": baseline, **numbers})


def _events(record: TrackRecord) -> list[tuple[str, object, object]]:
    """The key of an event's title, what was said of it, and what the recalibrated probabilities said."""
    beside = record.recalibrated
    return [
        ("record.upside", record.upside, beside.upside if beside else None),
        ("record.amplification", record.volatility_amplification, beside.volatility_amplification if beside else None),
    ]
