"""Each kind of rule on both sides of its level, of plain values."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from services.alerts.judging import judge_forecast, judge_series, judge_workers
from services.alerts.standing import SeriesStanding
from shared.alert_rules import (
    BandTouches,
    CoverageDrift,
    MissedUpdate,
    SimulatedData,
    UpsideAbove,
    UpsideBelow,
    VolatilityAbove,
    WorkerGone,
)
from shared.drift import Drift
from shared.forecasts import Forecast, Probability
from shared.freshness import GRACE_MS
from shared.kline_store import SeriesStatus
from shared.klines import Interval, Origin
from shared.queue_overview import Workforce
from shared.settings import Series
from tests.builders import finished_forecast, forecast_request, kline_window

HOUR_MS = Interval.H1.ms


def share(paths: int, of: int = 100) -> Probability:
    return Probability(value=paths / of, lower=paths / of - 0.05, upper=paths / of + 0.05, paths=paths, of=of)


def forecast(origin: Origin = "live", **changed: object) -> Forecast:
    made = finished_forecast("id", kline_window(origin=origin), forecast_request())[0]
    return made.model_copy(update=changed)


def standing(origin: Origin = "live", **said: object) -> tuple[SeriesStanding, int]:
    """All is well, at the moment when the newest candle's forecast has just landed."""
    made = forecast(origin)
    now_ms = made.last_open_time_ms + HOUR_MS + 10_000
    status = SeriesStatus(
        symbol="BTCUSDT",
        interval=Interval.H1,
        state=origin,
        venue="binance",
        origin=origin,
        ever_live=origin == "live",
        snapshot_id="0" * 16,
        last_open_time_ms=made.last_open_time_ms,
        checked_at_ms=now_ms - 5_000,
        next_fetch_at_ms=now_ms + HOUR_MS,
        problem=None,
    ).model_copy(update=said)
    return SeriesStanding(Series("BTCUSDT", Interval.H1), status, made, None), now_ms


@pytest.mark.parametrize(("paths", "holds"), [(69, False), (70, False), (71, True)])
def test_upside_above_its_level(paths: int, holds: bool) -> None:
    judged = judge_forecast(UpsideAbove(when="upside_above", level=0.7), forecast(upside=share(paths)))
    assert judged.holds == holds
    assert f"{paths}.0 % upside probability ({paths} of 100 paths" in judged.said
    assert judged.said.endswith(f"{ {69: 'below', 70: 'at', 71: 'above'}[paths] } the level of 70 %.")


@pytest.mark.parametrize(("paths", "holds"), [(24, True), (25, False), (26, False)])
def test_upside_below_its_level(paths: int, holds: bool) -> None:
    judged = judge_forecast(UpsideBelow(when="upside_below", level=0.25), forecast(upside=share(paths)))
    assert (judged.holds, "25 %" in judged.said) == (holds, True)


@pytest.mark.parametrize(("paths", "holds"), [(80, False), (81, True)])
def test_volatility_above_its_level(paths: int, holds: bool) -> None:
    rule = VolatilityAbove(when="volatility_above", level=0.8)
    judged = judge_forecast(rule, forecast(volatility_amplification=share(paths)))
    assert (judged.holds, "volatility amplification" in judged.said) == (holds, True)


def test_where_there_is_no_amplification_nothing_is_above_it() -> None:
    rule = VolatilityAbove(when="volatility_above", level=0.01)
    judged = judge_forecast(rule, forecast(volatility_amplification=None, returns_compared=1))
    assert (judged.holds, judged.said) == (False, "has no volatility amplification: it needs two steps.")


@pytest.mark.parametrize("band", [50, 80, 95])
def test_a_band_touches_a_price_from_its_lower_edge_to_its_upper_one(band: int) -> None:
    made = forecast()
    limits = next(one for one in made.close.bands if one.level == band)
    lowest, highest = min(limits.lower), max(limits.upper)

    def touched(price: float) -> bool:
        rule = BandTouches.model_validate({"when": "band_touches", "price": price, "band": band})
        return judge_forecast(rule, made).holds

    assert [touched(price) for price in (lowest, highest, limits.lower[0])] == [True, True, True]
    assert [touched(price) for price in (lowest - 0.01, highest + 0.01)] == [False, False]


def test_the_candle_that_a_band_touches_first_is_named() -> None:
    made = forecast()
    band = made.close.bands[1].model_copy(update={"lower": [1.0] * 23 + [90.0], "upper": [2.0] * 23 + [110.0]})
    made = made.model_copy(update={"close": made.close.model_copy(update={"bands": [band]})})
    said = judge_forecast(BandTouches(when="band_touches", price=100), made).said
    assert "touches 100.00, first in the candle of " in said
    assert "(step 24 of 24), where it reaches from 90.00 to 110.00." in said


def test_an_update_is_missed_when_the_next_forecast_is_overdue() -> None:
    stands, _ = standing()
    assert stands.latest
    due_ms = stands.latest.last_open_time_ms + 2 * HOUR_MS
    rule = MissedUpdate(when="missed_update")
    assert stands.status
    overdue_ms = due_ms + stands.status.next_fetch_at_ms % HOUR_MS + GRACE_MS + 1  # fetched so long after the close
    assert not judge_series(rule, stands, overdue_ms - 1).holds
    missed = judge_series(rule, stands, overdue_ms)
    assert (missed.holds, missed.settles_s) == (True, 0.0)
    assert "no new forecast since one was due at " in missed.said


def test_a_stale_series_is_a_missed_update_with_its_reason() -> None:
    stands, now_ms = standing(state="stale", problem="No venue answers.")
    judged = judge_series(MissedUpdate(when="missed_update"), stands, now_ms)
    assert (judged.holds, "No venue answers." in judged.said) == (True, True)


def test_a_recording_misses_nothing() -> None:
    stands, now_ms = standing("recorded")
    assert not judge_series(MissedUpdate(when="missed_update"), stands, now_ms + 1000 * HOUR_MS).holds


def test_a_first_forecast_is_given_time() -> None:
    stands, now_ms = standing()
    judged = judge_series(MissedUpdate(when="missed_update"), replace(stands, latest=None), now_ms)
    assert (judged.holds, judged.settles_s) == (True, 900.0)
    nobody = judge_series(MissedUpdate(when="missed_update"), replace(stands, latest=None, status=None), now_ms)
    assert "Nobody ingests it." in nobody.said


@pytest.mark.parametrize(("origin", "holds"), [("live", False), ("recorded", False), ("simulated", True)])
def test_simulated_data(origin: Origin, holds: bool) -> None:
    judged = judge_series(SimulatedData(when="simulated_data"), *standing(origin))
    assert (judged.holds, origin in judged.said) == (holds, True)


def test_simulated_data_stay_so_while_they_are_stale_and_are_none_before_there_are_any() -> None:
    stands, now_ms = standing("simulated", state="stale")
    rule = SimulatedData(when="simulated_data")
    assert judge_series(rule, stands, now_ms).holds
    assert not judge_series(rule, replace(stands, status=None), now_ms).holds


def drift(*, drifted: bool) -> Drift:
    return Drift(
        level=80, recalibrated=False, forecasts=100, covered=0.6, expected_from=0.7, expected_to=0.9, drifted=drifted
    )


def test_coverage_drift() -> None:
    stands, now_ms = standing()
    rule = CoverageDrift(when="coverage_drift")
    drifted = judge_series(rule, replace(stands, drift=drift(drifted=True)), now_ms)
    assert drifted.holds
    assert "the raw 80 % bands of its newest 100 scored forecasts held 60.0 % of what came" in drifted.said
    assert "70.0 % to 90.0 % is to be expected" in drifted.said
    assert not judge_series(rule, replace(stands, drift=drift(drifted=False)), now_ms).holds
    assert "too few" in judge_series(rule, stands, now_ms).said


@pytest.mark.parametrize(("there", "fewer_than", "holds"), [(0, 1, True), (1, 1, False), (2, 3, True), (3, 3, False)])
def test_workers_are_gone_when_there_are_fewer_than_wanted(there: int, fewer_than: int, holds: bool) -> None:
    heard = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    judged = judge_workers(WorkerGone(when="worker_gone", fewer_than=fewer_than), {"light": Workforce(there, heard)})
    assert judged.holds == holds
    assert ("since 2026-01-02 03:04:05Z" in judged.said) == (there == 0)


def test_too_few_workers_in_one_lane_are_too_few_and_the_lane_is_named() -> None:
    heard = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    rule = WorkerGone(when="worker_gone")
    judged = judge_workers(rule, {"light": Workforce(2, heard), "heavy": Workforce(0, heard)})
    assert (judged.holds, judged.said) == (
        True,
        "No worker in the heavy lane gave a sign of life since 2026-01-02 03:04:05Z; there should be 1 worker at least.",
    )
    assert not judge_workers(rule, {"light": Workforce(1, heard), "heavy": Workforce(1, heard)}).holds
