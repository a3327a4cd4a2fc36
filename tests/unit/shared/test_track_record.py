"""What the record says of forecasters whose truth is known: one that is right, one too sure, one that knows more."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from services.inference.scorekeeper import Outcome, enter
from services.inference.scoring.verdict import score_forecast
from shared.forecasts import Forecast
from shared.klines import Interval, KlineWindow
from shared.ledger import LedgerEntry
from shared.resampling import FEWEST, block_bootstrap
from shared.track_record import forecasters, track_record
from tests.builders import finished_forecast, forecast_request, kline_window, step_statistics, with_baselines

HORIZON, PATHS, STD = 6, 99, 0.004
HOUR = Interval.H1.ms
WINDOW = kline_window(200)


def entries(count: int, *, spread: float = 1.0, foresight: float = 0.0, seed: int = 1) -> list[LedgerEntry]:
    """Of a forecaster whose paths have `spread` times the true std and know `foresight` of what will come; horizons do
    not overlap.
    """
    rng = np.random.default_rng(seed)
    template, paths = finished_forecast("f", WINDOW, forecast_request(num_samples=PATHS, horizon=HORIZON))
    template, draws = with_baselines(template, WINDOW)
    true_walk = [*np.sqrt(np.arange(1, HORIZON + 1)) * STD]
    stated = [
        one.model_copy(update={"sigma": true_walk}) if one.sigma and one.name != "last_price" else one
        for one in template.baselines
    ]
    made = []
    for number in range(count):
        come = rng.normal(0, STD, HORIZON).cumsum()
        known = foresight * come
        own = math.sqrt(1 - foresight**2) * spread * rng.normal(0, STD, (PATHS, HORIZON)).cumsum(axis=1)
        closes = WINDOW.last_close * np.exp(known + own)
        window = shifted(number * HORIZON)
        forecast = template.model_copy(
            update={
                "id": f"f{number}",
                "last_open_time_ms": window.last_open_time_ms,
                "close": step_statistics(closes),
                "upside": template.upside.model_copy(
                    update={"value": float((closes[:, -1] > WINDOW.last_close).mean())}
                ),
                "baselines": stated,
            }
        )
        paths[:, :, 3] = closes
        made.append(entry_of(forecast, paths, draws, WINDOW.last_close * np.exp(come)))
    return made


def shifted(hours: int) -> KlineWindow:
    return replace(WINDOW, open_times_ms=WINDOW.open_times_ms + hours * HOUR)


def entry_of(forecast: Forecast, paths: np.ndarray, draws: np.ndarray, outcome: np.ndarray) -> LedgerEntry:
    scores = score_forecast(forecast, paths, draws, outcome, WINDOW.values[:, 3])
    return enter(forecast, Outcome(outcome, False, None), scores, "schedule", 0)


def test_a_perfectly_calibrated_forecaster_gets_its_coverage_and_a_flat_pit() -> None:
    record = track_record(entries(400))
    assert record
    for band in record.bands:
        share = band.level / 100
        # steps of one forecast go together, so as if there were one a forecast
        assert band.covered.value == pytest.approx(share, abs=3.3 * math.sqrt(share * (1 - share) / 400))
        assert band.covered.lower is not None
        assert band.covered.upper is not None
        assert band.covered.lower < share < band.covered.upper
    assert np.abs(np.array(record.pit) - 0.1).max() < 0.04
    assert record.verdict == "no edge"
    assert record.drift
    assert not record.drift.drifted


def test_an_overconfident_forecaster_is_seen_through() -> None:
    record = track_record(entries(400, spread=0.4))
    assert record
    assert record.bands[1].covered.upper is not None
    assert record.bands[1].covered.upper < 0.6
    assert record.pit[0] > 0.2
    assert record.pit[-1] > 0.2
    assert record.verdict == "worse"
    assert record.skill.value < 0
    assert record.drift
    assert record.drift.drifted


def test_a_forecaster_that_knows_more_has_an_edge() -> None:
    record = track_record(entries(200, foresight=0.6))
    assert record
    assert record.verdict == "edge"
    assert record.skill.value > 0.1
    assert record.best_baseline != "last_price"


def test_skill_that_is_lost_is_seen_and_skill_that_stays_is_not() -> None:
    steady, lost = track_record(entries(300)), track_record([*entries(200, foresight=0.7), *later(200, entries(100))])
    assert steady
    assert steady.skill_drift
    assert not steady.skill_drift.drifted
    assert lost
    assert lost.skill_drift
    assert lost.skill_drift.skill < lost.skill_drift.expected_from < lost.skill_drift.skill_before
    assert lost.skill_drift.drifted


def test_overlapping_horizons_alone_seldom_make_a_drift() -> None:
    """An origin at each step, so that neighbours share all but one of them: one in a hundred is to be expected by chance."""
    alarms = [overlapping(seed) for seed in range(60)]
    assert sum(alarms) <= 4


def overlapping(seed: int) -> bool:
    """Whether drift is seen in 200 forecasts of a perfect 80 % band on one random walk."""
    (one,) = entries(1)
    assert one.scores
    walk = np.random.default_rng(seed).normal(size=200 + HORIZON).cumsum()
    reach = 1.2816 * np.sqrt(np.arange(1, HORIZON + 1))
    made = []
    for at in range(200):
        inside = (abs(walk[at + 1 : at + HORIZON + 1] - walk[at]) <= reach[:HORIZON]).tolist()
        bands = [band.model_copy(update={"covered": inside}) for band in one.scores.bands]
        scores = one.scores.model_copy(update={"bands": bands})
        made.append(replace_time(one.model_copy(update={"scores": scores}), at))
    record = track_record(made)
    assert record
    assert record.drift
    return record.drift.drifted


def later(count: int, made: list[LedgerEntry]) -> list[LedgerEntry]:
    return [replace_time(one, (count + number) * HORIZON) for number, one in enumerate(made)]


def replace_time(entry: LedgerEntry, hours: int) -> LedgerEntry:
    return entry.model_copy(update={"last_open_time_ms": WINDOW.last_open_time_ms + hours * HOUR})


def test_nothing_is_claimed_of_too_few() -> None:
    record = track_record(entries(FEWEST - 1))
    assert record
    assert record.verdict == "too few"
    assert (record.skill.lower, record.drift, record.needed) == (None, None, FEWEST)
    assert track_record([]) is None


def test_the_baseline_that_turned_out_best_is_the_one_to_beat() -> None:
    record = track_record(entries(60))
    assert record
    by_name = {one.name: one.crps for one in record.baselines}
    assert record.best_baseline == min(by_name, key=by_name.__getitem__)
    assert record.skill.value == pytest.approx(1 - record.crps / by_name[record.best_baseline])


def test_a_baseline_that_came_later_is_compared_over_its_own_forecasts() -> None:
    made = entries(60)
    later = [made[0], *(without(one, "garch") for one in made[1:31]), *made[31:]]
    record, whole = track_record(later), track_record([made[0], *made[31:]])
    assert record
    assert whole
    here, there = ({one.name: one for one in each.baselines} for each in (record, whole))
    assert here["garch"] == there["garch"]
    assert (here["garch"].forecasts, here["random_walk"].forecasts) == (30, 60)
    assert record.best_baseline != "garch"


def without(entry: LedgerEntry, name: str) -> LedgerEntry:
    assert entry.scores
    left = {one: score for one, score in entry.scores.baselines.items() if one != name}
    return entry.model_copy(update={"scores": entry.scores.model_copy(update={"baselines": left})})


def test_forecasters_are_told_apart_and_the_newest_comes_first() -> None:
    early, late = entries(40), entries(35, seed=2)
    other = [one.model_copy(update={"forecaster": "other", "temperature": 1.0}) for one in late]
    known = forecasters([*early, *other])
    assert [(one.forecaster, one.forecasts, one.newest) for one in known] == [
        ("other", 35, True),
        (early[0].forecaster, 40, False),
    ]
    record = track_record([*early, *other], early[0].forecaster)
    assert record
    assert record.forecasts == 40


def test_what_could_not_be_scored_is_counted() -> None:
    made = entries(40)
    made[3] = made[3].model_copy(update={"scores": None, "problem": "24 of 24 candles are missing."})
    made[5] = made[5].model_copy(update={"closes": [None, *made[5].closes[1:]]})
    record = track_record(made)
    assert record
    assert (record.forecasts, record.unscored, record.incomplete) == (39, 1, 1)


def mean(means: np.ndarray) -> np.ndarray:
    return means[:, 0]


def test_the_bootstrap_gives_the_interval_of_independent_values_and_a_wider_one_of_overlapping() -> None:
    rng = np.random.default_rng(3)
    alone = rng.normal(size=(2000, 1))
    bounds = block_bootstrap(alone, 1, mean)
    assert bounds
    assert bounds[1] - bounds[0] == pytest.approx(2 * 1.96 / math.sqrt(2000), rel=0.1)
    overlapping = np.convolve(rng.normal(size=2023), np.ones(24) / math.sqrt(24), mode="valid")[:, None]
    blocks = block_bootstrap(overlapping, 48, mean)
    assert blocks
    assert (blocks[1] - blocks[0]) > 3 * (bounds[1] - bounds[0])


@pytest.mark.parametrize("rows", [FEWEST - 1, 50])
def test_the_bootstrap_says_nothing_of_too_few(rows: int) -> None:
    assert block_bootstrap(np.zeros((rows, 1)), 11, mean) is None


def test_periods_hold_every_forecast_and_the_worst_come_first() -> None:
    made: Sequence[LedgerEntry] = entries(95)
    record = track_record(made)
    assert record
    assert sum(period.forecasts for period in record.periods) == 95
    assert [one.crps for one in record.worst] == sorted((one.scores.crps for one in made if one.scores), reverse=True)[
        :5
    ]
