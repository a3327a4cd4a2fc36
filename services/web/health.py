"""/livez: this process answers. /readyz: it can show a forecast that is as new as it should be, and Redis takes new ones."""

from __future__ import annotations

from collections.abc import Callable

from flask import Blueprint, Response, jsonify

from services.web.languages import in_english
from services.web.problems import problem_response
from services.web.situation import Situation, Stores, freshness, read_situation, why_no_forecast, why_no_worker
from shared.errors import KronosLiveError
from shared.settings import Settings

Checks = dict[str, str | None]  # check -> what is wrong, None where all is well


def health_pages(settings: Settings, stores: Stores, now_ms: Callable[[], int]) -> Blueprint:
    pages = Blueprint("health", __name__)

    @pages.get("/livez")
    def livez() -> Response:
        return jsonify(status="ok")

    @pages.get("/readyz")
    def readyz() -> Response:
        now = now_ms()
        try:
            stores.queue.check_writable()
            situation = read_situation(stores, settings.data.symbol, settings.data.interval, now)
        except KronosLiveError as error:
            checks: Checks = {"redis": error.message}
        else:
            checks = {"redis": None, **readiness(situation, now)}
        stated = {name: {"ok": wrong is None, "detail": wrong} for name, wrong in checks.items()}
        failed = [f"{name}: {wrong}" for name, wrong in checks.items() if wrong]
        if failed:
            return problem_response(503, "Not ready. " + " ".join(failed), checks=stated, headers={"Retry-After": "5"})
        return jsonify(status="ok", checks=stated)

    return pages


def readiness(situation: Situation, now_ms: int) -> Checks:
    """What /readyz asks of the configured series, Redis itself apart."""
    worker = in_english(why_no_worker(situation)) or None
    if situation.latest is None:
        return {"worker": worker, "forecast": " ".join(["There is no forecast yet.", *why_no_forecast(situation)])}
    fresh = freshness(situation, situation.latest, now_ms)
    stale = f"The latest forecast is stale: {fresh.reason}" if fresh.state == "stale" else None
    return {"worker": worker, "forecast": stale}
