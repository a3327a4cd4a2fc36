"""The track record's charts: the numbers that the record has, in traces that say their role."""

from __future__ import annotations

import json
from typing import Any

from services.web.languages import translator
from services.web.record_charts import record_charts
from shared.klines import Interval
from shared.ledger import BandScore, BaselineScore, EventScore, LedgerEntry, RecalibratedScores, Scores
from shared.track_record import TrackRecord, track_record

DAY_MS = 86_400_000
LEVELS = (50, 80, 95)


def bands(*, last_missing: bool) -> list[BandScore]:
    inside: list[bool | None] = [True, False, None if last_missing else True]
    return [BandScore(level=level, covered=inside, interval_score=90.0) for level in LEVELS]


def entry(number: int, *, recalibrated: bool, last_missing: bool = False) -> LedgerEntry:
    upside = EventScore(probability=0.2 if number % 2 else 0.7, happened=number % 4 == 0)
    recalibration = RecalibratedScores(
        bands=bands(last_missing=last_missing),
        upside=upside.model_copy(update={"probability": 0.4}),
        volatility_amplification=None,
    )
    last = None if last_missing else 101.0
    return LedgerEntry(
        forecast_id=f"f{number}",
        symbol="BTCUSDT",
        interval=Interval.H1,
        venue="binance",
        origin="live",
        made_for="schedule",
        last_open_time_ms=number * DAY_MS,
        last_close=100.0,
        horizon=3,
        history=100,
        num_samples=20,
        temperature=1.0,
        top_p=1.0,
        top_k=0,
        model="small",
        model_sha256="0" * 16,
        forecaster="a" * 16,
        seen_in_training=False,
        scored_at_ms=number * DAY_MS,
        closes=[101.0, 99.0, last],
        revised=False,
        problem=None,
        scores=Scores(
            crps=20.0,
            crps_by_step=[10.0, 30.0, None if last_missing else 20.0],
            error_of_mean=20.0,
            error_of_median=20.0,
            bands=bands(last_missing=last_missing),
            pit=[0.05, 0.55, None if last_missing else 0.95],
            position=[0.0, 0.1, None if last_missing else 0.2],
            upside=upside,
            volatility_amplification=None,
            baselines={"random_walk": BaselineScore(crps=16.0, covered={80: 0.8}, upside=upside)},
            recalibrated=recalibration if recalibrated else None,
        ),
    )


def charts(*entries: LedgerEntry) -> tuple[TrackRecord, dict[str, dict[str, Any]]]:
    record = track_record(entries)
    assert record
    made = record_charts(record, translator("en"))
    assert json.loads(json.dumps(made, allow_nan=False)) == made
    return record, {one["name"]: one for one in made}


def test_each_chart_has_the_records_numbers_and_names_their_table() -> None:
    record, made = charts(*(entry(number, recalibrated=False) for number in range(60)))
    assert {name: one["table"] for name, one in made.items()} == {
        "skill": "periods",
        "coverage": "by-step",
        "upside": "event-1",
        "pit": "pit",
    }
    (skill,) = made["skill"]["figure"]["data"]
    assert skill["y"] == [one.skill for one in record.periods] == [-0.25, -0.25]
    assert record.periods[0].from_ms < skill["x"][0] < record.periods[0].until_ms
    (pit,) = made["pit"]["figure"]["data"]
    assert pit["y"] == record.pit
    assert made["pit"]["figure"]["layout"]["shapes"][0]["y0"] == 0.1


def test_every_level_stands_beside_what_it_says() -> None:
    _, made = charts(*(entry(number, recalibrated=False) for number in range(4)))
    figure = made["coverage"]["figure"]
    assert [trace["meta"]["role"] for trace in figure["data"]] == ["level 50", "level 80", "level 95"]
    assert [shape["y0"] for shape in figure["layout"]["shapes"]] == [0.5, 0.8, 0.95]
    assert all((trace["x"], trace["y"]) == ([1, 2, 3], [1.0, 0.0, 1.0]) for trace in figure["data"])


def test_recalibrated_probabilities_are_drawn_beside_the_raw_ones() -> None:
    _, made = charts(*(entry(number, recalibrated=True) for number in range(40)))
    raw, beside = made["upside"]["figure"]["data"]
    assert (raw["meta"]["role"], beside["meta"]["role"]) == ("raw", "recalibrated")
    assert [round(said, 3) for said in raw["x"]] == [0.2, 0.7]
    assert (raw["y"], raw["text"]) == ([0.0, 0.5], ["20", "20"])
    assert [round(said, 3) for said in beside["x"]] == [0.4]
    assert (beside["y"], beside["text"]) == ([0.25], ["40"])


def test_a_step_that_no_forecast_knows_is_a_gap() -> None:
    _, made = charts(*(entry(number, recalibrated=False, last_missing=True) for number in range(3)))
    assert all(trace["y"][2] is None for trace in made["coverage"]["figure"]["data"])
