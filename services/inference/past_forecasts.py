"""One forecast from a moment of the past, made by the very forecaster that serves, and scored at once.

What is known at the moment and what followed are different things here, so that no forecast can see its outcome. Knows
neither where moments come from nor who makes them: a backtest here, or a worker for one.
"""

from __future__ import annotations

import numpy as np

from services.inference.forecaster import Forecaster, Report, Task
from services.inference.scorekeeper import Outcome, enter
from services.inference.scoring.verdict import score_forecast
from shared.backtest_queue import Line, Moment
from shared.klines import CLOSE


def forecast_and_score(forecaster: Forecaster, moment: Moment, report: Report) -> Line:
    """Raises as the forecaster does."""
    known, outcome = moment.known, np.array(moment.outcome)
    made = forecaster.forecast(Task(moment.forecast_id, moment.request, known), report)
    scores = score_forecast(made.forecast, made.paths, made.baseline_draws, outcome, known.values[:, CLOSE])
    closed_ms = made.forecast.open_times_ms[-1] + known.interval.ms
    return Line(
        forecast=made.forecast,
        entry=enter(made.forecast, Outcome(outcome, False, None), scores, "backtest", closed_ms),
    )
