"""Settings are compared on the candles that both were run on, and on no others."""

from __future__ import annotations

import pytest

from shared.track_record import track_record
from tests.unit.web.test_record_charts import entry

DAY_MS = 86_400_000


def test_two_settings_are_compared_where_both_were_run() -> None:
    calm = [entry(number, recalibrated=False) for number in range(80)]
    other = [
        one.model_copy(
            update={
                "forecast_id": f"{one.forecast_id}-t",
                "forecaster": "b" * 16,
                "temperature": 0.6,
                "scores": one.scores.model_copy(update={"crps": 25.0 + number % 3}) if one.scores else None,
            }
        )
        for number, one in enumerate(calm[20:70])
    ]
    # After those, a storm that the first setting alone has met: it must not count against it.
    storm = [
        one.model_copy(update={"scores": one.scores.model_copy(update={"crps": 900.0})})
        for one in (entry(number, recalibrated=False) for number in range(80, 90))
        if one.scores
    ]
    entries = sorted([*calm, *other, *storm], key=lambda one: one.last_open_time_ms)
    record = track_record(entries, "a" * 16)
    assert record
    (trial,) = record.trials
    assert (trial.forecaster, trial.forecasts, trial.crps) == ("b" * 16, 50, 20.0)
    assert trial.crps_of_other == pytest.approx(26.0, abs=0.05)
    assert trial.skill.value == pytest.approx(1 - trial.crps / trial.crps_of_other)
    assert trial.skill.lower is not None
    assert 0 < trial.skill.lower < trial.skill.value
    assert trial.covered_80 == trial.covered_80_of_other == pytest.approx(2 / 3)

    mirrored = track_record(entries, "b" * 16)
    assert mirrored
    assert [(one.forecaster, one.crps, one.forecasts) for one in mirrored.trials] == [
        ("a" * 16, trial.crps_of_other, 50)
    ]


def test_settings_without_a_candle_in_common_are_not_compared() -> None:
    first = [entry(number, recalibrated=False) for number in range(40)]
    later = [
        entry(number, recalibrated=False).model_copy(update={"forecaster": "b" * 16, "forecast_id": f"l{number}"})
        for number in range(40, 80)
    ]
    longer = [
        one.model_copy(update={"forecaster": "c" * 16, "forecast_id": f"h{one.forecast_id}", "horizon": 4})
        for one in first
    ]
    record = track_record([*first, *longer, *later], "a" * 16)
    assert record
    assert record.trials == []
