"""The page around a forecast: its numbers, its record and what has become of it. Which forecast that is, pages.py knows."""

from __future__ import annotations

from datetime import datetime
from functools import lru_cache
from typing import Any

from flask import Response, make_response, render_template

from services.web.conditional import conditional
from services.web.monte_carlo import return_estimate, return_half_width
from services.web.realised import Realised
from services.web.recalibration import why_not_recalibrated
from services.web.scripts import modules_of
from services.web.situation import Stores
from services.web.verdict import verdict
from shared.errors import NotFoundError
from shared.forecasts import Forecast
from shared.resampling import FEWEST
from shared.series_record import SeriesRecord

PAGE_MODULES = modules_of("page.js")
POLL_S = 15
POLL_WHILE_COMPUTING_S = 1
POLL_WITHOUT_FORECAST_S = 3
SPREADS_REMEMBERED = 256  # of a forecast's paths, which never change: a number each, in place of all paths at each look


class ForecastPage:
    """Answers with the page of a forecast, or of one that is not there yet."""

    def __init__(self, stores: Stores, *, calibrates: bool) -> None:
        self._stores = stores
        self._calibrates = calibrates
        self._spread_of = lru_cache(maxsize=SPREADS_REMEMBERED)(self._spread)

    def of(
        self, forecast: Forecast, became: Realised, found: SeriesRecord | None, *, computing: bool, **shown: Any
    ) -> Response:
        """With what has become of it, and the record of those made as it is; `shown` is what else the template shows."""
        spread = self._spread_of(forecast.id, forecast.created_at)
        record = found.record if found else None
        shown |= {
            "forecast": forecast,
            "became": became,
            "estimate": return_estimate(forecast, spread) if spread is not None else None,
            "found": found,
            "verdict": verdict(found) if found else None,
            "checked": record if record and record.forecasts >= FEWEST else None,
            "not_recalibrated": why_not_recalibrated(forecast, found, enabled=self._calibrates),
        }
        return _page(POLL_WHILE_COMPUTING_S if computing else POLL_S, shown)

    def without(self, *, computing: bool, **shown: Any) -> Response:
        """Where there is none yet."""
        return _page(POLL_WHILE_COMPUTING_S if computing else POLL_WITHOUT_FORECAST_S, {**shown, "forecast": None})

    def _spread(self, forecast_id: str, created_at: datetime) -> float | None:  # noqa: ARG002 - it tells apart what was made anew
        """None also where retention drops the paths between the two looks."""
        try:
            forecast = self._stores.forecasts.load(forecast_id)
            return return_half_width(forecast, self._stores.forecasts.load_paths(forecast_id))
        except NotFoundError:
            return None


def _page(poll_s: int, shown: dict[str, Any]) -> Response:
    shown |= {"poll_s": poll_s, "page_modules": PAGE_MODULES}
    return conditional(make_response(render_template("forecast.html", **shown)))
