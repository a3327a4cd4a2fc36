"""Whose forecasts share a record: all that decides how they come out, also for entries of before that was all noted."""

from __future__ import annotations

import hashlib
import json
import zlib

import pytest
from redis import Redis

from services.inference import scorekeeper
from services.inference.backtest.seeding import seed_ledger
from services.inference.calibration import FEWEST
from shared.calibration_store import CalibrationStore
from shared.forecasts import Forecast, forecaster_of
from shared.klines import Interval
from shared.ledger import Ledger, LedgerEntry
from tests.builders import finished_forecast, forecast_request
from tests.unit.shared.test_track_record import HORIZON, PATHS, WINDOW, entries

H1 = Interval.H1
SERIES = ("BTCUSDT", H1)


def forecast(*, made: dict[str, object] | None = None, **wishes: object) -> Forecast:
    asked = forecast_request(**{"num_samples": 20, "horizon": HORIZON, "history": 100, **wishes})
    found, _ = finished_forecast("f", WINDOW, asked)
    return found.model_copy(update={"provenance": found.provenance.model_copy(update=made or {})})


PLAIN = {"dtype": "float32", "max_context": 512, "overflow": "trim"}


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ({}, {"history": 101}, False),
        ({}, {"num_samples": 21}, False),
        ({}, {"target_error": 0.1}, False),
        ({}, {"seed": 99}, True),
        ({}, {"made": {**PLAIN, "dtype": "int8"}}, False),
        ({}, {"made": {**PLAIN, "dtype": "bfloat16"}}, True),
        ({}, {"made": {**PLAIN, "overflow": "slide"}}, True),
        ({}, {"made": {**PLAIN, "history_used": 70}}, True),
        ({"history": 600}, {"history": 600, "made": {**PLAIN, "overflow": "slide"}}, False),
        ({"history": 600}, {"history": 600, "made": {**PLAIN, "max_context": 256}}, False),
    ],
)
def test_what_decides_how_forecasts_come_out_tells_forecasters_apart(
    one: dict[str, object], other: dict[str, object], same: bool
) -> None:
    first, second = forecast(**{"made": PLAIN, **one}), forecast(**{"made": PLAIN, **other})
    assert (forecaster_of(first) == forecaster_of(second)) is same


def as_before(entry: LedgerEntry, made: Forecast) -> dict[str, object]:
    """As a version stored it that knew weights, horizon and sampling alone."""
    model, drawn = made.provenance.model, made.sampling
    named = f"{model.sha256}|{model.tokenizer_sha256}|{made.request.horizon}"
    named += f"|{drawn.temperature:g}|{drawn.top_p:g}|{drawn.top_k}"
    stored: dict[str, object] = json.loads(entry.model_dump_json(exclude={"dtype"}))
    return {**stored, "forecaster": hashlib.sha256(named.encode()).hexdigest()[:16]}


def test_entries_that_are_stored_already_stay_in_the_record_of_their_settings(redis: Redis) -> None:
    made, _ = finished_forecast("f", WINDOW, forecast_request(num_samples=PATHS, horizon=HORIZON))
    (entry,) = entries(1)
    assert entry.forecaster == forecaster_of(made)
    old = as_before(entry, made)
    assert old["forecaster"] != entry.forecaster
    key = f"BTCUSDT:1h:{entry.origin}"
    redis.hset(f"kronos:ledger:{key}", entry.forecast_id, zlib.compress(json.dumps(old).encode()))
    redis.zadd(f"kronos:ledger-order:{key}", {entry.forecast_id: entry.last_open_time_ms})
    (read,) = Ledger(redis).entries(*SERIES, entry.origin)
    assert read == entry.model_copy(update={"dtype": None})
    assert LedgerEntry.model_validate_json(read.model_dump_json()) == read, "it is completed once"
    assert Ledger(redis).newest_of_each(*SERIES, entry.origin, 5) == {entry.forecaster: [read]}
    other = LedgerEntry.model_validate_json(json.dumps({**old, "history": 100}))
    assert other.forecaster != entry.forecaster


def test_a_forecaster_learns_from_its_own_newest_however_many_others_came_since(
    redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scorekeeper, "MOST", FEWEST + 10)
    ledger, calibrations = Ledger(redis), CalibrationStore(redis)
    rare, usual = entries(FEWEST + 5), entries(2 * FEWEST + 40)[FEWEST + 5 :]
    usual = [one.model_copy(update={"forecaster": "b" * 16, "forecast_id": f"b{one.forecast_id}"}) for one in usual]
    for entry in [*rare, *usual]:
        assert ledger.add(entry)
    origin = rare[0].origin
    scorekeeper.learn_anew(ledger, calibrations, *SERIES, origin)
    learned = calibrations.load(*SERIES, origin)
    assert {name: one.scored for name, one in learned.items()} == {
        rare[0].forecaster: FEWEST + 5,
        "b" * 16: FEWEST + 10,
    }
    redis.delete(f"kronos:ledger-makers:BTCUSDT:1h:{origin}", f"kronos:calibration:BTCUSDT:1h:{origin}")
    scorekeeper.learn_anew(ledger, calibrations, *SERIES, origin)
    assert calibrations.load(*SERIES, origin) == learned, "also of entries that were added before makers were noted"


def test_a_backtest_that_was_seeded_under_the_ids_of_before_is_not_seeded_twice(redis: Redis) -> None:
    found = [one.model_copy(update={"made_for": "backtest", "seen_in_training": False}) for one in entries(3)]
    assert Ledger(redis).add(found[0].model_copy(update={"forecast_id": f"f0-{'0' * 16}"}))
    assert seed_ledger(redis, found).added == 2
    assert seed_ledger(redis, found).added == 0
