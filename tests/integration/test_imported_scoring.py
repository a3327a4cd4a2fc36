"""Imported updates are scored when their candles come, by themselves and once; a real Redis, ingest's cycle and a real worker."""

from __future__ import annotations

from pathlib import Path

import pytest
from redis import Redis
from rq.job import Job

from shared.due_forecasts import LONGEST_WAIT_MS
from shared.imported_ledger import ImportedLedger, ImportedScores, ImportedUpdate
from shared.imported_scores import KnownCloses, score_update
from shared.imported_scoring import MOST_AT_ONCE, score_imported
from shared.klines import CLOSE, Interval
from tests.builders import kline_window
from tests.ingest_parts import HOUR_MS, NOON_MS, Clock, Ingest, ingest_settings, nowhere
from tests.processes import eventually, service
from tests.tiny_models import write_tiny_models
from tests.unit.shared.test_imported_record import update
from tests.venue_server import VenueServer

DUE_HOUR = NOON_MS // HOUR_MS - 1  # whose candle is the newest closed one
HISTORY = 1000  # candles that ingest stores
SERIES = ("BTCUSDT", Interval.H1)
SCORING = f"score-BTCUSDT-1h-{DUE_HOUR * HOUR_MS}"


@pytest.fixture
def ingest(server: VenueServer, redis: Redis, clock: Clock) -> Ingest:
    return Ingest(ingest_settings(server.url), redis, clock)


@pytest.fixture
def ledger(redis: Redis) -> ImportedLedger:
    return ImportedLedger(redis)


def imported(ledger: ImportedLedger, *hours: int) -> list[ImportedUpdate]:
    """An update for each hour: that of the last candle which was known, counted from the newest closed one."""
    updates = [update(DUE_HOUR + hour) for hour in hours]
    ledger.add(*SERIES, updates)
    return updates


def score(ingest: Ingest, ledger: ImportedLedger) -> int:
    return score_imported(ledger, ingest.klines, *SERIES, ingest.clock.now_ms())


def scores(ledger: ImportedLedger) -> dict[int, ImportedScores | None]:
    """By hour as above."""
    return {one.update.last_open_time_ms // HOUR_MS - DUE_HOUR: one.scores for one in ledger.entries(*SERIES)}


def scored(ledger: ImportedLedger) -> list[int]:
    return [hour for hour, one in scores(ledger).items() if one]


def test_ingest_has_a_worker_score_what_was_imported_before_its_candles_came(
    ingest: Ingest, ledger: ImportedLedger, redis: Redis, redis_url: str, tmp_path: Path
) -> None:
    updates = imported(ledger, -100, -24, -23)
    ingest.cycle.run(None)
    window = ingest.klines.load(str(ingest.status.snapshot_id))
    environment = {
        "KRONOS_REDIS__URL": redis_url,
        "KRONOS_MODEL__LOCAL_DIR": str(write_tiny_models(tmp_path / "models")),
        "KRONOS_MODEL__ALLOW_HUB": "false",
        "KRONOS_WORKER__THREADS": "1",
    }
    with service("worker", environment, tmp_path) as worker:
        eventually(lambda: scored(ledger) == [-100, -24], 120, worker.log)
    closes = KnownCloses(
        "binance", dict(zip(window.open_times_ms.tolist(), window.values[:, CLOSE].tolist(), strict=True))
    )
    found = scores(ledger)
    for one, hour in zip(updates[:2], (-100, -24), strict=True):
        kept = found[hour]
        assert kept
        assert kept == score_update(one, [closes], kept.scored_at_ms)
        assert kept.volatility_amplification


def test_each_is_scored_once_with_the_candle_that_ends_its_horizon(
    ingest: Ingest, ledger: ImportedLedger, redis: Redis, clock: Clock
) -> None:
    imported(ledger, -24, -23)
    ingest.cycle.run(None)
    assert score(ingest, ledger) == 1
    first = scores(ledger)
    clock.at_ms += 1000
    assert score(ingest, ledger) == 0
    imported(ledger, -24)  # given again
    ingest.cycle.run(None)
    assert scores(ledger) == first
    assert not ledger.is_due(*SERIES, NOON_MS)
    clock.at_ms += HOUR_MS
    ingest.cycle.run(None)
    assert Job.exists(f"score-BTCUSDT-1h-{(DUE_HOUR + 1) * HOUR_MS}", connection=redis)
    assert score(ingest, ledger) == 1
    assert scored(ledger) == [-24, -23]
    assert scores(ledger)[-24] == first[-24]


def test_a_candle_that_ends_no_horizon_has_nothing_scored(ingest: Ingest, ledger: ImportedLedger, redis: Redis) -> None:
    imported(ledger, -23, 0)
    ingest.cycle.run(None)
    assert not Job.exists(SCORING, connection=redis)


def test_what_is_older_than_the_stored_candles_is_looked_at_once_until_it_is_imported_again(
    ingest: Ingest, ledger: ImportedLedger, redis: Redis
) -> None:
    imported(ledger, *range(-HISTORY - 20, -HISTORY), -30)
    ingest.cycle.run(None)
    assert score(ingest, ledger) == 1
    assert scored(ledger) == [-30]
    assert not redis.exists("kronos:imported-waiting:BTCUSDT:1h"), "nothing of it is walked again"
    [again] = imported(ledger, -HISTORY - 1)
    assert list(ledger.due(*SERIES, NOON_MS, 10)) == [again.key]


def test_what_may_still_get_its_candles_is_looked_at_again_with_each_until_nobody_waits_any_more(
    ingest: Ingest, ledger: ImportedLedger, clock: Clock, redis: Redis
) -> None:
    """Its last known candle lies before those that are stored."""
    ingest.klines.save(kline_window(40, venue="okx", start_ms=(DUE_HOUR - 39) * HOUR_MS))
    ingest.cycle.run(None)
    redis.delete(*redis.keys("kronos:closed:*:binance:live"))
    imported(ledger, -50)
    assert score(ingest, ledger) == 0
    known_until_ms = (DUE_HOUR + 1) * HOUR_MS
    assert not ledger.is_due(*SERIES, known_until_ms)
    assert ledger.is_due(*SERIES, known_until_ms + HOUR_MS)
    clock.at_ms += LONGEST_WAIT_MS - 25 * HOUR_MS
    ingest.cycle.run(None)
    redis.delete(*redis.keys("kronos:closed:*:binance:live"))
    assert score(ingest, ledger) == 0
    assert not redis.exists("kronos:imported-waiting:BTCUSDT:1h")


def test_simulated_candles_neither_score_nor_end_the_waiting(
    ledger: ImportedLedger, redis: Redis, clock: Clock
) -> None:
    alone = Ingest(ingest_settings(nowhere(), allow_simulated=True), redis, clock)
    imported(ledger, -400, -30)
    alone.cycle.run(None)
    assert alone.status.origin == "simulated"
    assert not Job.exists(SCORING, connection=redis)
    assert score(alone, ledger) == 0
    assert len(ledger.due(*SERIES, NOON_MS, 10)) == 2


def test_thousands_are_worked_through_in_parts(ingest: Ingest, ledger: ImportedLedger, clock: Clock) -> None:
    imported(ledger, *range(-HISTORY - MOST_AT_ONCE, -HISTORY), -200, -25)
    ingest.cycle.run(None)
    assert score(ingest, ledger) == 0
    assert len(ledger.due(*SERIES, NOON_MS, MOST_AT_ONCE)) == 2
    assert score(ingest, ledger) == 2


def test_what_another_version_wrote_is_left_to_it(ingest: Ingest, ledger: ImportedLedger, redis: Redis) -> None:
    other, own = imported(ledger, -40, -30)
    redis.hset("kronos:imported:BTCUSDT:1h", other.key, '{"of": "another version"}')
    ingest.cycle.run(None)
    assert score(ingest, ledger) == 1
    assert not redis.exists("kronos:imported-waiting:BTCUSDT:1h")
    assert redis.hget("kronos:imported:BTCUSDT:1h", other.key) == b'{"of": "another version"}'
    assert [one.update.key for one in ledger.entries(*SERIES) if one.scores] == [own.key]


def test_scores_of_an_import_end_the_waiting_too(ledger: ImportedLedger, redis: Redis) -> None:
    [one] = imported(ledger, -30)
    closes = {(DUE_HOUR + hour) * HOUR_MS: 100.0 + hour for hour in (-30, -6)}
    found = score_update(one, [KnownCloses("file", closes)], NOON_MS)
    assert found
    assert ledger.add_scores(*SERIES, {one.key: found}) == 1
    assert ledger.add_scores(*SERIES, {one.key: found}) == 0
    assert not redis.exists("kronos:imported-waiting:BTCUSDT:1h")
