"""Whether a rule holds, and the sentence that says so with its numbers: pure functions of stored things and a moment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import assert_never

from services.alerts.standing import SeriesStanding, Standing
from shared.alert_rules import (
    BandTouches,
    CoverageDrift,
    ForecastRule,
    MissedUpdate,
    SeriesSystemRule,
    SimulatedData,
    UpsideAbove,
    UpsideBelow,
    VolatilityAbove,
    WorkerGone,
)
from shared.forecasts import Forecast, Probability, band_name, why_no_amplification
from shared.freshness import is_stale, successor_due_ms
from shared.klines import utc
from shared.prices import price
from shared.queue_overview import Workforce
from shared.settings import Lane

FIRST_FORECAST_S = 900.0  # that the first forecast of a series may take: models are loaded, klines fetched


@dataclass(frozen=True)
class Judgement:
    """Whether a rule holds and what is so, either way, as a sentence that goes on from the name of a series.

    `settles_s` is how long that must be so at least before anybody is told.
    """

    holds: bool
    said: str
    settles_s: float = 0.0


def judge_forecast(rule: ForecastRule, forecast: Forecast) -> Judgement:
    match rule:
        case UpsideAbove(level=level):
            return _share("upside probability", forecast.upside, level, above=True)
        case UpsideBelow(level=level):
            return _share("upside probability", forecast.upside, level, above=False)
        case VolatilityAbove(level=level):
            if forecast.volatility_amplification is None:
                return Judgement(False, f"has no volatility amplification: it {why_no_amplification(forecast)}.")
            return _share(
                "probability of volatility amplification", forecast.volatility_amplification, level, above=True
            )
        case BandTouches():
            return _band(rule, forecast)
    assert_never(rule)


def judge_series(rule: SeriesSystemRule, standing: SeriesStanding, now_ms: int) -> Judgement:
    """Of how a series stands at `now_ms`, UTC ms."""
    match rule:
        case MissedUpdate():
            return _missed_update(standing, now_ms)
        case SimulatedData():
            return _simulated_data(standing)
        case CoverageDrift():
            return _coverage_drift(standing)
    assert_never(rule)


def judge_workers(rule: WorkerGone, workforces: Mapping[Lane, Workforce]) -> Judgement:
    """Of the workers of each lane that forecasts are led to: too few in one are too few."""
    lacking = {lane: one for lane, one in workforces.items() if one.at_hand < rule.fewer_than}
    told = [
        _workers_of(lane, one, rule.fewer_than, len(workforces) > 1) for lane, one in (lacking or workforces).items()
    ]
    return Judgement(bool(lacking), " ".join(told))


def _workers_of(lane: Lane, workforce: Workforce, fewer_than: int, several_lanes: bool) -> str:
    wanted = _counted(fewer_than, "worker")
    there = "No worker" if workforce.at_hand == 0 else _counted(workforce.at_hand, "worker")
    heard = workforce.silent_since
    since = f" since {utc(round(heard.timestamp() * 1000))}" if heard else " in the last minute"
    of_lane = f" in the {lane} lane" if several_lanes else ""
    return f"{there}{of_lane} gave a sign of life{since}; there should be {wanted} at least."


def judge_system(rule: SeriesSystemRule | WorkerGone, standing: SeriesStanding | None, whole: Standing) -> Judgement:
    """A rule of the system: of the workers, or of the series that it is asked of."""
    if isinstance(rule, WorkerGone):
        return judge_workers(rule, whole.workforces)
    assert standing is not None  # noqa: S101 - each other rule is asked of a series
    return judge_series(rule, standing, whole.now_ms)


def _share(what: str, share: Probability, level: float, *, above: bool) -> Judgement:
    holds = share.value > level if above else share.value < level
    # The level goes without a digit more than it was given, the share with as many as tell it from there.
    where = "above" if share.value > level else "below" if share.value < level else "at"
    paths = f"{share.paths} of {share.of} paths, 95 % interval {percent(share.lower)} to {percent(share.upper)}"
    return Judgement(holds, f"has {percent(share.value)} {what} ({paths}), {where} the level of {level * 100:g} %.")


def _band(rule: BandTouches, forecast: Forecast) -> Judgement:
    band = next((one for one in forecast.close.bands if one.level == rule.band), None)
    if band is None:
        return Judgement(False, f"has no {rule.band} % band.")
    name, wanted = band_name(band), price(rule.price)
    for step, (low, high) in enumerate(zip(band.lower, band.upper, strict=True)):
        if low <= rule.price <= high:
            at = utc(forecast.open_times_ms[step])
            return Judgement(
                True,
                f"has a {name} that touches {wanted}, first in the candle of {at} (step {step + 1} of {len(band.lower)}), "
                f"where it reaches from {price(low)} to {price(high)}.",
            )
    reach = f"{price(min(band.lower))} to {price(max(band.upper))}"
    return Judgement(False, f"has a {name} that lies within {reach} and does not touch {wanted}.")


def _missed_update(standing: SeriesStanding, now_ms: int) -> Judgement:
    status, latest = standing.status, standing.latest
    if latest is None:
        problem = status.problem if status and status.problem else "Nobody ingests it." if status is None else ""
        said = f"has no forecast yet. {problem} `kronos-live doctor` says what stands in the way."
        return Judgement(True, " ".join(said.split()), settles_s=FIRST_FORECAST_S)
    after = f"its newest one follows the candle of {utc(latest.last_open_time_ms)}"
    if not is_stale(status, latest, now_ms):
        return Judgement(False, f"has the forecast that it should have: {after}.")
    due_ms = successor_due_ms(latest)
    missed = f"has had no new forecast since one was due at {utc(due_ms)}" if due_ms <= now_ms else "is stale"
    why = f" {status.problem}" if status and status.problem else ""
    return Judgement(True, f"{missed}; {after}.{why} `kronos-live doctor` says what stands in the way.")


def _simulated_data(standing: SeriesStanding) -> Judgement:
    status = standing.status
    if status is None or status.origin is None:
        return Judgement(False, "has no candles yet.")
    if status.origin != "simulated":
        return Judgement(False, f"runs on {status.origin} candles of {(status.venue or 'no venue').capitalize()}.")
    why = f" {status.problem}" if status.problem else ""
    return Judgement(True, f"runs on simulated candles, of no market.{why}")


def _coverage_drift(standing: SeriesStanding) -> Judgement:
    drift = standing.drift
    if drift is None:
        return Judgement(False, "has too few scored forecasts to tell whether its bands still hold what they say.")
    kind = "recalibrated" if drift.recalibrated else "raw"
    held = f"the {kind} {drift.level} % bands of its newest {drift.forecasts} scored forecasts held {percent(drift.covered)}"
    expected = f"of what came, where {percent(drift.expected_from)} to {percent(drift.expected_to)} is to be expected"
    return Judgement(
        drift.drifted, f"has drifted: {held} {expected}." if drift.drifted else f"is covered: {held} {expected}."
    )


def percent(share: float) -> str:
    return f"{share * 100:.1f} %"


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
