"""The scorekeeper: which scheduled forecasts have closed, what then happened by their own venue, and their entries in the
ledger.

Run after each candle by a job in the forecasts' queue. Done twice it writes nothing twice; killed half way it leaves what
is missing to the next run. How a forecast is scored is in `scoring`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from services.inference.calibration import MOST, learn
from services.inference.scoring.verdict import score_forecast
from shared.calibration_store import CalibrationStore
from shared.due_forecasts import LONGEST_WAIT_MS, due_forecasts
from shared.errors import KlineError, NotFoundError
from shared.forecast_store import ForecastStore
from shared.forecasts import Forecast, ModelIdentity, forecaster_of
from shared.kline_store import Followed, KlineStore
from shared.klines import CLOSE, ORIGINS, Interval, Origin, utc
from shared.ledger import Ledger, LedgerEntry, Scores
from shared.logs import get_logger

SHA256_HEAD = 12
# What a model may have seen where its card does not say: the published ones were trained on data to early 2024; forecasts of
# the bundled one that were stored before cards were read, on data to the end of 2024.
PUBLISHED_TRAINED_UNTIL_MS = int(datetime(2024, 6, 1, tzinfo=UTC).timestamp() * 1000)
BUNDLED_TRAINED_UNTIL_MS = int(datetime(2025, 1, 1, tzinfo=UTC).timestamp() * 1000)

log = get_logger(__name__)

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Stores:
    """What the scorekeeper reads and writes."""

    klines: KlineStore
    forecasts: ForecastStore
    calibrations: CalibrationStore


@dataclass(frozen=True, eq=False)
class Outcome:
    """What happened: a close for each step, NaN where its candle is missing. `revised`: whether the venue has changed the
    last known candle since; `problem` says what is amiss, in one sentence.
    """

    closes: Floats
    revised: bool
    problem: str | None


def score_due(stores: Stores, symbol: str, interval: Interval, now_ms: int) -> list[LedgerEntry]:
    """Score what has closed and has no entry yet; `now_ms` is UTC ms. Returns the new entries, oldest first.

    Raises StoreUnavailableError.
    """
    scored = []
    for origin in ORIGINS:
        entries = []
        for forecast in due_forecasts(stores.forecasts, symbol, interval, origin, now_ms):
            outcome = _outcome(stores.klines, forecast, now_ms)
            if outcome is None:
                continue
            entry = enter(forecast, outcome, _scores(stores, forecast, outcome), "schedule", now_ms)
            if stores.forecasts.ledger.add(entry):
                entries.append(entry)
                log.info("forecast_scored", forecast=forecast.id, problem=entry.problem)
        # Also where this run added none: an earlier one may have died between an entry and what it teaches.
        learn_anew(stores.forecasts.ledger, stores.calibrations, symbol, interval, origin)
        scored += entries
    return scored


def enter(
    forecast: Forecast, outcome: Outcome, scores: Scores | None, made_for: Literal["schedule", "backtest"], now_ms: int
) -> LedgerEntry:
    """The entry of a forecast; `now_ms` is UTC ms."""
    request, model = forecast.request, forecast.provenance.model
    return LedgerEntry(
        forecast_id=forecast.id,
        symbol=request.symbol,
        interval=request.interval,
        venue=forecast.provenance.venue,
        origin=forecast.provenance.origin,
        made_for=made_for,
        last_open_time_ms=forecast.last_open_time_ms,
        last_close=forecast.last_close,
        horizon=request.horizon,
        history=request.history,
        num_samples=forecast.paths.shape[0],
        temperature=forecast.sampling.temperature,
        top_p=forecast.sampling.top_p,
        top_k=forecast.sampling.top_k,
        model=model.name,
        model_sha256=model.sha256[:SHA256_HEAD],
        dtype=forecast.provenance.dtype,
        forecaster=forecaster_of(forecast),
        seen_in_training=may_have_seen(model, forecast.open_times_ms[0]),
        scored_at_ms=now_ms,
        closes=[None if np.isnan(close) else float(close) for close in outcome.closes],
        revised=outcome.revised,
        problem=outcome.problem,
        scores=scores,
    )


def may_have_seen(model: ModelIdentity, at_ms: int) -> bool:
    """Whether a model may have been trained on the candle that opens at `at_ms` (UTC ms). Of weights whose card does not
    say nothing is known; they are taken to descend from the published ones.
    """
    if model.trained_until_ms is not None:
        return at_ms < model.trained_until_ms
    return at_ms < (BUNDLED_TRAINED_UNTIL_MS if model.source == "bundled" else PUBLISHED_TRAINED_UNTIL_MS)


def learn_anew(ledger: Ledger, calibrations: CalibrationStore, symbol: str, interval: Interval, origin: Origin) -> None:
    """Save what the newest entries of each forecaster teach, MOST of each. Those of a backtest stand in for live ones as long
    as these are fewer than MOST, of times before them alone and of none that the model was trained on.
    """
    own = _scored(ledger.newest_of_each(symbol, interval, origin, MOST))
    past = _scored(ledger.newest_of_each(symbol, interval, "backtest", MOST) if origin == "live" else {})
    for forecaster in own | past:
        entries = own.get(forecaster, [])
        before = _standing_in(past.get(forecaster, []), entries)
        learned = learn([entry.scores for entry in [*before, *entries] if entry.scores], len(before))
        if learned:
            calibrations.save(symbol, interval, origin, forecaster, learned)


def _scored(groups: Mapping[str, Sequence[LedgerEntry]]) -> dict[str, list[LedgerEntry]]:
    """Those entries that have scores."""
    return {forecaster: [entry for entry in entries if entry.scores] for forecaster, entries in groups.items()}


def _standing_in(past: Sequence[LedgerEntry], live: Sequence[LedgerEntry]) -> list[LedgerEntry]:
    """Entries of a backtest to learn from before the live ones; both oldest first."""
    until_ms = live[0].last_open_time_ms if live else None
    fit = [
        entry
        for entry in past
        if not entry.seen_in_training and (until_ms is None or entry.last_open_time_ms < until_ms)
    ]
    return fit[max(0, len(fit) - (MOST - len(live))) :]


def _outcome(klines: KlineStore, forecast: Forecast, now_ms: int) -> Outcome | None:
    """None while more may still come to be known."""
    request, made_by, last_ms = forecast.request, forecast.provenance, forecast.open_times_ms[-1]
    before_ms = forecast.last_open_time_ms - request.interval.ms
    found = klines.followed(
        request.symbol, request.interval, made_by.venue, made_by.origin, before_ms, 1 + len(forecast.open_times_ms)
    )
    if last_ms not in found.open_times_ms and now_ms < last_ms + LONGEST_WAIT_MS:
        return None
    return _read_outcome(forecast, found)


def _read_outcome(forecast: Forecast, found: Followed) -> Outcome:
    closes = dict(zip(found.open_times_ms.tolist(), found.values[:, CLOSE].tolist(), strict=True))
    ahead = np.array([closes.get(time, np.nan) for time in forecast.open_times_ms])
    now_known = closes.get(forecast.last_open_time_ms, forecast.last_close)
    revised = now_known != forecast.last_close
    problems = []
    if missing := [time for time, close in zip(forecast.open_times_ms, ahead, strict=True) if np.isnan(close)]:
        problems.append(
            f"{len(missing)} of {len(ahead)} candles are missing at {forecast.provenance.venue}, the first at "
            f"{utc(missing[0])}"
        )
    if revised:
        problems.append(f"the last known close was {forecast.last_close:g} then and is {now_known:g} now")
    return Outcome(ahead, revised, "; ".join(problems) + "." if problems else None)


def _scores(stores: Stores, forecast: Forecast, outcome: Outcome) -> Scores | None:
    if np.isnan(outcome.closes).all():
        return None
    return score_forecast(
        forecast,
        stores.forecasts.load_paths(forecast.id),
        stores.forecasts.load_draws(forecast),
        outcome.closes,
        _past_closes(stores.klines, forecast),
    )


def _past_closes(klines: KlineStore, forecast: Forecast) -> Floats:
    """The closes that the forecast knew; none where its snapshot is no longer kept."""
    try:
        return klines.load(forecast.provenance.snapshot_id).values[:, CLOSE]
    except (NotFoundError, KlineError):
        return np.zeros(0)
