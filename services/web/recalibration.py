"""Why a forecast stands there without recalibrated bands and probabilities, and how many scored ones are still needed."""

from __future__ import annotations

from services.web.languages import Saying
from shared.calibration import FEWEST
from shared.forecasts import Forecast
from shared.series_record import SeriesRecord


def why_not_recalibrated(forecast: Forecast, found: SeriesRecord | None, *, enabled: bool) -> list[Saying]:
    """In a sentence; empty where it is recalibrated. `found` is the record of the forecasts made as this one is."""
    if forecast.recalibrated:
        return []
    if found is None:
        return [Saying("recalibrated.never")]
    if not enabled:
        return [Saying("recalibrated.off")]
    scored = found.record.forecasts if found.record else 0
    if scored < FEWEST:
        return [Saying("recalibrated.needed", {"fewest": FEWEST, "n": scored, "missing": FEWEST - scored})]
    return [Saying("recalibrated.earlier", {"fewest": FEWEST})]
