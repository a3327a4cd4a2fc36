"""Ingest as a whole: a real venue server, a real Redis, and a clock that the test moves."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
from redis import Redis
from rq.job import Job
from rq.serializers import JSONSerializer

from shared.errors import SettingsError, StoreUnavailableError, VenueError
from shared.forecasts import ForecastRequest, scheduled_forecast_id, seed_of
from shared.kline_store import KlineStore, SeriesStatus
from shared.klines import Interval
from shared.redis_connection import connect
from tests.builders import finished_forecast, forecast_request, redis_settings
from tests.conftest import PROJECT, free_port, redis_server_binary
from tests.ingest_parts import HOUR_MS, NOON_MS, Clock, Ingest, ingest_settings, nowhere, replaced
from tests.processes import PATIENCE, VENUE_MAY_TAKE
from tests.venue_server import VenueServer

DUE_MS = NOON_MS - 5000 - HOUR_MS
NEXT_FETCH_MS = NOON_MS + HOUR_MS
FORECAST_ID = "BTCUSDT-1h-20261123T110000Z"


@pytest.fixture
def ingest(server: VenueServer, redis: Redis, clock: Clock) -> Ingest:
    return Ingest(ingest_settings(server.url), redis, clock)


def queued_request(redis: Redis, forecast_id: str) -> ForecastRequest:
    job = Job.fetch(forecast_id, connection=redis, serializer=JSONSerializer)
    assert job.args[0] == forecast_id
    return ForecastRequest.model_validate(job.args[1])


def test_a_cycle_brings_a_candle_from_the_market_to_the_queue(ingest: Ingest, redis: Redis) -> None:
    ingest.cycle.run(None)
    status = ingest.status
    assert (status.state, status.venue, status.problem, status.ever_live) == ("live", "binance", None, True)
    assert (status.last_open_time_ms, status.checked_at_ms, status.next_fetch_at_ms) == (DUE_MS, NOON_MS, NEXT_FETCH_MS)
    assert status.snapshot_id is not None
    window = ingest.klines.load(status.snapshot_id)
    assert (len(window), window.origin, window.last_open_time_ms) == (1000, "live", DUE_MS)
    request = queued_request(redis, FORECAST_ID)
    assert (request.snapshot_id, request.scheduled, request.history) == (status.snapshot_id, True, 360)
    assert request.seed == seed_of(FORECAST_ID)


def test_a_candle_has_its_own_seed_whoever_asks_for_its_forecast(
    ingest: Ingest, server: VenueServer, redis: Redis, clock: Clock
) -> None:
    ingest.cycle.run(None)
    first = queued_request(redis, FORECAST_ID).seed
    redis.flushall()
    Ingest(ingest_settings(server.url), redis, clock).cycle.run(None)
    assert queued_request(redis, FORECAST_ID).seed == first
    clock.at_ms = NEXT_FETCH_MS
    ingest.cycle.run(None)
    assert queued_request(redis, "BTCUSDT-1h-20261123T120000Z").seed != first


def test_two_ingests_that_see_the_same_candle_make_one_forecast(
    ingest: Ingest, server: VenueServer, redis: Redis, clock: Clock
) -> None:
    ingest.cycle.run(None)
    Ingest(ingest_settings(server.url), redis, clock).cycle.run(None)
    ingest.cycle.run(None)
    assert ingest.queue.waiting() == 1


def test_forecasts_whose_candles_have_closed_are_given_to_be_scored_once(
    ingest: Ingest, server: VenueServer, redis: Redis, clock: Clock
) -> None:
    ingest.cycle.run(None)
    known = ingest.klines.load(str(ingest.status.snapshot_id))
    request = forecast_request(ingest.status.snapshot_id or "", horizon=2)
    ingest.forecasts.save(*finished_forecast(FORECAST_ID, known, request))
    scoring = "score-BTCUSDT-1h-{}".format
    clock.at_ms += HOUR_MS
    ingest.cycle.run(None)
    assert not Job.exists(scoring(DUE_MS + HOUR_MS), connection=redis), "one of its two candles has not closed yet"
    clock.at_ms += HOUR_MS
    ingest.cycle.run(None)
    Ingest(ingest_settings(server.url), redis, clock).cycle.run(None)
    job = Job.fetch(scoring(DUE_MS + 2 * HOUR_MS), connection=redis, serializer=JSONSerializer)
    assert (job.func_name, list(job.args)) == ("services.inference.jobs.score_series", ["BTCUSDT", "1h"])
    assert ingest.queue.waiting() == 4, "three forecasts and one scoring"


def test_a_forecast_that_is_stored_is_not_made_again(ingest: Ingest, server: VenueServer) -> None:
    ingest.forecasts.save(
        *finished_forecast(FORECAST_ID, ingest.market.find(None, may_simulate=False).window, forecast_request())
    )
    ingest.cycle.run(None)
    assert ingest.queue.waiting() == 0
    assert ingest.status.state == "live"


def test_a_short_history_is_asked_for_as_it_is_and_the_status_says_so(
    ingest: Ingest, server: VenueServer, redis: Redis
) -> None:
    server.fail("missing", times=None, back=120)
    ingest.cycle.run(None)
    assert queued_request(redis, FORECAST_ID).history == 120
    assert ingest.status.state == "live"
    assert ingest.status.problem is not None
    assert "120 candles without a gap" in ingest.status.problem


def test_other_symbols_and_intervals_have_their_own_forecasts(server: VenueServer, redis: Redis, clock: Clock) -> None:
    for symbol, interval in (("BTCUSDT", Interval.H4), ("ETHUSDT", Interval.H1)):
        Ingest(ingest_settings(server.url, symbol=symbol, interval=interval), redis, clock).cycle.run(None)
    assert queued_request(redis, "BTCUSDT-4h-20261123T080000Z").interval is Interval.H4
    assert queued_request(redis, "ETHUSDT-1h-20261123T110000Z").symbol == "ETHUSDT"


def test_a_failed_fetch_is_tried_again_within_the_interval_with_growing_pauses(
    ingest: Ingest, server: VenueServer, clock: Clock
) -> None:
    server.fail("500", times=2)
    server.fail("cut")
    server.fail("garbage")
    server.fail("lag", back=0)
    assert ingest.take(DUE_MS, NEXT_FETCH_MS)
    assert clock.waits == [0.5, 1, 2, 4, 8]
    assert (ingest.status.state, ingest.status.last_open_time_ms) == ("live", DUE_MS)
    assert ingest.queue.waiting() == 1


def test_while_it_fails_the_series_is_stale_with_its_last_snapshot_reason_and_next_try(
    ingest: Ingest, server: VenueServer, clock: Clock
) -> None:
    ingest.cycle.run(None)
    before = ingest.status
    clock.at_ms = NEXT_FETCH_MS
    server.fail("451", times=None)
    seen = []
    assert not ingest.take(DUE_MS + HOUR_MS, NEXT_FETCH_MS + 60_000, lambda: seen.append(ingest.status))
    assert {status.state for status in seen} == {"stale"}
    assert seen[0].next_fetch_at_ms == NEXT_FETCH_MS + 500
    assert "not offered in this country" in str(seen[0].problem)
    assert (seen[0].snapshot_id, seen[0].venue, seen[0].last_open_time_ms) == (before.snapshot_id, "binance", DUE_MS)
    assert ingest.status.next_fetch_at_ms == NEXT_FETCH_MS + 60_000
    assert NEXT_FETCH_MS < clock.at_ms < NEXT_FETCH_MS + 60_000


@pytest.mark.parametrize("kind", ["429", "418"])
def test_retry_after_is_honoured_within_the_interval(
    kind: str, ingest: Ingest, server: VenueServer, clock: Clock
) -> None:
    server.fail(kind, retry_after=120)
    assert ingest.take(DUE_MS, NEXT_FETCH_MS)
    assert clock.waits == [120]
    assert ingest.status.state == "live"


def test_a_ban_longer_than_the_interval_is_sat_out_without_a_question(
    ingest: Ingest, server: VenueServer, clock: Clock
) -> None:
    server.fail("418", retry_after=2 * 3600)
    assert not ingest.take(DUE_MS, NEXT_FETCH_MS)
    assert (ingest.status.state, ingest.status.next_fetch_at_ms) == ("stale", NEXT_FETCH_MS)
    clock.at_ms = NEXT_FETCH_MS
    assert not ingest.take(DUE_MS + HOUR_MS, NEXT_FETCH_MS + HOUR_MS)
    assert len(server.asked) == 1
    clock.at_ms = NOON_MS + 2 * HOUR_MS
    assert ingest.take(DUE_MS + 2 * HOUR_MS, NEXT_FETCH_MS + 2 * HOUR_MS)


def test_the_first_cycle_runs_at_once_and_the_next_ones_five_seconds_after_each_close(
    ingest: Ingest, server: VenueServer, clock: Clock
) -> None:
    clock.at_ms = NOON_MS + 17 * 60_000
    fetched_at: list[int] = []
    run = ingest.cycle.run

    def noted(expected_open_ms: int | None) -> bool:
        fetched_at.append(clock.at_ms)
        return run(expected_open_ms)

    ingest.cycle.run = noted  # type: ignore[method-assign]
    ingest.turns_until(lambda: len(fetched_at) == 4)
    assert fetched_at == [NOON_MS + 17 * 60_000, *(NOON_MS + n * HOUR_MS for n in (1, 2, 3))]
    assert ingest.queue.waiting() == 4


@pytest.mark.parametrize("ahead_s", [600, -600, 3])
def test_a_clock_that_is_wrong_costs_no_candle(ahead_s: int, server: VenueServer, redis: Redis, clock: Clock) -> None:
    wrong = Clock(NOON_MS + 58 * 60_000 + ahead_s * 1000)
    server.now_ms = lambda: wrong.at_ms - ahead_s * 1000  # type: ignore[method-assign]
    ingest = Ingest(ingest_settings(server.url), redis, wrong)
    ingest.turns_until(lambda: ingest.queue.waiting() == 3)
    assert NOON_MS + 2 * HOUR_MS <= server.now_ms() <= NOON_MS + 2 * HOUR_MS + 2000
    assert ingest.status.state == "live"


def test_a_venue_that_lives_in_the_past_is_followed_there(redis: Redis, clock: Clock) -> None:
    year_ms = 365 * 24 * HOUR_MS
    with VenueServer(lambda: clock.at_ms - year_ms) as past:
        ingest = Ingest(ingest_settings(past.url), redis, clock)
        ingest.turns_until(lambda: ingest.queue.waiting() == 2)
    assert ingest.status.state == "live"
    assert ingest.status.last_open_time_ms == DUE_MS + HOUR_MS - year_ms


def test_a_clock_that_is_wrong_is_found_out_although_the_first_turn_failed_until_the_next_close(
    server: VenueServer, redis: Redis
) -> None:
    wrong = Clock(NOON_MS + 59 * 60_000 + 5 * HOUR_MS)
    server.now_ms = lambda: wrong.at_ms - 5 * HOUR_MS  # type: ignore[method-assign]
    ingest = Ingest(ingest_settings(server.url), redis, wrong)
    server.fail("500", times=None)

    def mended_after_the_close() -> bool:
        if wrong.at_ms > NOON_MS + 6 * HOUR_MS:
            server.faults.clear()
        return ingest.queue.waiting() == 2

    ingest.turns_until(mended_after_the_close)
    assert server.now_ms() <= NOON_MS + 2 * HOUR_MS + 2000
    assert (ingest.status.state, ingest.status.last_open_time_ms) == ("live", DUE_MS + 2 * HOUR_MS)


def test_a_clock_a_moment_ahead_waits_for_the_candle_instead_of_losing_it(server: VenueServer, redis: Redis) -> None:
    ahead = Clock(NOON_MS)
    server.now_ms = lambda: ahead.at_ms - 1500  # type: ignore[method-assign]
    ingest = Ingest(replaced(ingest_settings(server.url), venues={"settle_seconds": 0.0}), redis, ahead)
    ingest.turns_until(lambda: ingest.queue.waiting() == 2)
    assert NOON_MS - 5000 + HOUR_MS <= server.now_ms() <= NOON_MS - 5000 + HOUR_MS + 1000


def test_every_candle_of_a_short_interval_is_fetched_although_turns_run_over(
    server: VenueServer, redis: Redis, clock: Clock
) -> None:
    ingest = Ingest(ingest_settings(server.url, interval=Interval.M1), redis, clock)
    seen: list[int] = []
    find = ingest.market.find

    def slow(expected_open_ms: int | None, *, may_simulate: bool):  # type: ignore[no-untyped-def]
        found = find(expected_open_ms, may_simulate=may_simulate)
        seen.append(found.window.last_open_time_ms)
        clock.wait(62 if len(seen) == 2 else 1)
        return found

    ingest.market.find = slow  # type: ignore[method-assign]
    ingest.turns_until(lambda: len(seen) >= 5)
    assert all(after - before <= 60_000 for before, after in pairwise(seen))


def test_a_live_series_is_never_continued_by_simulated_klines(server: VenueServer, redis: Redis, clock: Clock) -> None:
    ingest = Ingest(ingest_settings(server.url, allow_simulated=True), redis, clock)
    ingest.cycle.run(None)
    clock.at_ms = NEXT_FETCH_MS
    server.fail("451", times=None)
    assert not ingest.take(DUE_MS + HOUR_MS, NEXT_FETCH_MS + 60_000)
    assert (ingest.status.state, ingest.status.last_open_time_ms) == ("stale", DUE_MS)
    # nor after a restart, nor when every venue is out of reach
    again = Ingest(ingest_settings(nowhere(), allow_simulated=True), redis, clock)
    assert not again.take(None, clock.at_ms + 1000)
    assert (again.status.state, again.status.venue) == ("stale", "binance")
    assert ingest.queue.waiting() == 1


def test_a_simulated_series_turns_live_when_a_venue_answers(server: VenueServer, redis: Redis, clock: Clock) -> None:
    ingest = Ingest(ingest_settings(server.url, allow_simulated=True), redis, clock)
    server.fail("451")
    ingest.cycle.run(None)
    assert (ingest.status.state, ingest.status.venue, ingest.status.ever_live) == ("simulated", "simulated", False)
    assert ingest.queue.waiting() == 1
    clock.at_ms = NEXT_FETCH_MS
    ingest.cycle.run(DUE_MS + HOUR_MS)
    assert (ingest.status.state, ingest.status.venue, ingest.status.ever_live) == ("live", "binance", True)
    assert ingest.status.snapshot_id is not None
    assert ingest.klines.load(ingest.status.snapshot_id).origin == "live"


def test_after_simulated_klines_real_ones_are_looked_for_within_the_same_interval(
    server: VenueServer, redis: Redis, clock: Clock
) -> None:
    ingest = Ingest(ingest_settings(server.url, allow_simulated=True), redis, clock)
    server.fail("500", times=3)
    assert ingest.take(None, NEXT_FETCH_MS)
    assert clock.waits == [5, 10, 20]
    assert (ingest.status.state, ingest.status.last_open_time_ms) == ("live", DUE_MS)
    for forecast_id in (FORECAST_ID, f"{FORECAST_ID}-simulated"):
        assert ingest.queue.status(forecast_id).state == "queued"


def test_simulated_klines_until_the_next_candle_are_no_failure(redis: Redis, clock: Clock) -> None:
    ingest = Ingest(ingest_settings(nowhere(), allow_simulated=True), redis, clock)
    assert not ingest.take(None, NEXT_FETCH_MS)
    assert ingest.status.state == "simulated"
    assert ingest.queue.waiting() == 1


def test_an_ingest_that_reaches_no_venue_leaves_the_other_ones_candle_alone(
    ingest: Ingest, redis: Redis, clock: Clock
) -> None:
    ingest.cycle.run(None)
    cut_off = Ingest(ingest_settings(nowhere()), redis, clock)
    assert not cut_off.take(None, clock.at_ms + 3000)
    assert (ingest.status.state, ingest.status.problem) == ("live", None)


def test_simulated_klines_that_come_after_another_ingests_real_ones_change_nothing(
    server: VenueServer, redis: Redis, clock: Clock
) -> None:
    cut_off = Ingest(ingest_settings(nowhere(), allow_simulated=True), redis, clock)
    find = cut_off.market.find

    def overtaken(expected_open_ms: int | None, *, may_simulate: bool):  # type: ignore[no-untyped-def]
        found = find(expected_open_ms, may_simulate=may_simulate)
        Ingest(ingest_settings(server.url), redis, clock).cycle.run(None)
        return found

    cut_off.market.find = overtaken  # type: ignore[method-assign]
    assert not cut_off.cycle.run(None)
    assert (cut_off.status.state, cut_off.status.origin, cut_off.status.ever_live) == ("live", "live", True)
    assert cut_off.queue.waiting() == 1


def test_a_state_written_while_another_is_being_made_is_not_lost(ingest: Ingest, redis: Redis) -> None:
    ingest.cycle.run(None)
    first = ingest.status
    seen: list[str | None] = []

    def change(known: SeriesStatus | None) -> SeriesStatus | None:
        assert known is not None
        seen.append(known.problem)
        if len(seen) == 1:
            other = first.model_copy(update={"problem": "written meanwhile"})
            ingest.klines.change_status("BTCUSDT", Interval.H1, lambda _: other)
        return known.model_copy(update={"state": "stale"})

    assert ingest.klines.change_status("BTCUSDT", Interval.H1, change)
    assert seen == [None, "written meanwhile"]
    assert (ingest.status.state, ingest.status.problem) == ("stale", "written meanwhile")


def test_a_candle_is_not_missed_before_it_was_to_be_fetched(ingest: Ingest, redis: Redis, clock: Clock) -> None:
    ingest.cycle.run(None)
    clock.at_ms = NEXT_FETCH_MS - 2000  # the next candle has closed, but nobody has asked for it yet
    ingest.cycle.report_failure(VenueError("no venue"), NEXT_FETCH_MS)
    assert ingest.status.state == "live"
    clock.at_ms = NEXT_FETCH_MS
    ingest.cycle.report_failure(VenueError("no venue"), NEXT_FETCH_MS + HOUR_MS)
    assert ingest.status.state == "stale"


def test_a_series_without_any_klines_yet_is_stale_and_says_why(redis: Redis, clock: Clock) -> None:
    ingest = Ingest(ingest_settings(nowhere()), redis, clock)
    assert not ingest.take(None, NOON_MS + 3000)
    status = ingest.status
    assert (status.state, status.venue, status.snapshot_id, status.last_open_time_ms) == ("stale", None, None, None)
    assert "cannot be reached" in str(status.problem)


def test_a_recording_is_ingested_with_its_last_candle_as_now(klines_folder: Path, redis: Redis, clock: Clock) -> None:
    file = klines_folder / "BTCUSDT-1h-with-quote-volume.csv.gz"
    ingest = Ingest(ingest_settings(venues=("recorded",), recorded_file=str(file)), redis, clock)
    ingest.cycle.run(None)
    ingest.cycle.run(DUE_MS)
    status = ingest.status
    assert (status.state, status.venue, status.ever_live) == ("recorded", "recorded", False)
    assert status.last_open_time_ms == 1_760_792_400_000
    assert (
        queued_request(redis, scheduled_forecast_id("BTCUSDT", Interval.H1, 1_760_792_400_000, "recorded")).history
        == 360
    )


def test_a_recording_that_is_not_there_stops_the_start(redis: Redis, clock: Clock) -> None:
    ingest = Ingest(ingest_settings(venues=("recorded",), recorded_file="nowhere.csv"), redis, clock)
    with pytest.raises(SettingsError, match=r"nowhere\.csv, which cannot be read"):
        ingest.turns.take()


def test_redis_may_come_late_and_the_candle_is_not_lost(server: VenueServer, clock: Clock, tmp_path: Path) -> None:
    port = free_port()
    client = connect(redis_settings(f"redis://127.0.0.1:{port}/0"))
    ingest = Ingest(ingest_settings(server.url), client, clock)
    started: list[subprocess.Popen[bytes]] = []

    def start_after_two_waits() -> None:
        if len(clock.waits) == 2:
            command = [redis_server_binary(), "--port", str(port), "--bind", "127.0.0.1", "--save", ""]
            started.append(subprocess.Popen(command, stdout=subprocess.DEVNULL, cwd=tmp_path))

    with pytest.raises(StoreUnavailableError):
        ingest.klines.all_statuses()
    try:
        assert ingest.take(DUE_MS, NEXT_FETCH_MS, start_after_two_waits)
        assert ingest.queue.waiting() == 1
    finally:
        for redis_server in started:
            redis_server.terminate()
            redis_server.wait(timeout=60)


def start_ingest(redis_url: str, **knobs: str) -> subprocess.Popen[str]:
    environment = {"KRONOS_REDIS__URL": redis_url, "KRONOS_LOGS__FORMAT": "json", **VENUE_MAY_TAKE, **knobs}
    command = "from services.ingest.main import run; from shared.settings import load_settings; run(load_settings())"
    return subprocess.Popen(
        [sys.executable, "-c", command],
        cwd=PROJECT,
        env={**os.environ, **environment},
        stderr=subprocess.PIPE,
        text=True,
    )


def until(condition: Callable[[], bool], seconds: float) -> None:
    end = time.monotonic() + seconds * PATIENCE
    while not condition():
        assert time.monotonic() < end, "it took too long"
        time.sleep(0.02)


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT])
def test_the_process_ingests_at_once_and_ends_at_a_signal(stop: signal.Signals, redis: Redis, redis_url: str) -> None:
    with VenueServer() as server:
        process = start_ingest(redis_url, KRONOS_VENUES__BINANCE_URLS=server.url)
        try:
            until(lambda: bool(redis.hlen("kronos:series")), 60)
            process.send_signal(stop)
            _, logged = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 0
    assert "ingest_stopped" in logged
    assert "Traceback" not in logged


def test_a_signal_ends_the_process_while_a_venue_keeps_it_waiting(redis_url: str) -> None:
    with VenueServer() as server:
        server.fail("slow", times=None, seconds=60)
        process = start_ingest(
            redis_url,
            KRONOS_VENUES__BINANCE_URLS=server.url,
            KRONOS_DATA__VENUES="binance",
            KRONOS_VENUES__SEARCH_SECONDS="60",
        )
        try:
            until(lambda: bool(server.asked), 60)
            process.terminate()
            process.communicate(timeout=40)  # sooner than the venue answers
        finally:
            process.kill()
    assert process.returncode == 0


def test_without_a_network_simulated_klines_are_there_within_the_search_time(redis: Redis, redis_url: str) -> None:
    gone = {name: nowhere() for name in ("BINANCE_URLS", "OKX_URL", "BYBIT_URL")}
    process = start_ingest(redis_url, **{f"KRONOS_VENUES__{name}": url for name, url in gone.items()})
    try:
        until(lambda: bool(redis.hlen("kronos:series")), 60)
    finally:
        process.terminate()
        process.communicate(timeout=60)
    status = KlineStore(redis, keep=2).status("BTCUSDT", Interval.H1)
    assert status is not None
    assert (status.state, status.venue) == ("simulated", "simulated")
