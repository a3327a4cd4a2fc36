"""Freshness, and what is missing where there is no forecast: decided from plain values."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from services.web.situation import Situation, freshness, next_update, why_no_forecast
from shared.forecasts import Forecast, JobStatus
from shared.freshness import GRACE_MS
from shared.kline_store import SeriesStatus
from shared.klines import Interval, KlineWindow, Origin
from shared.labels import labels
from tests.builders import finished_forecast, forecast_request, kline_window

HOUR_MS = Interval.H1.ms
FETCHED_AFTER_MS = 5_000  # the close, as the series below says


def situation(origin: Origin = "live") -> tuple[Situation, Forecast, int]:
    """All is well, at the moment when the newest candle's forecast has just landed."""
    window: KlineWindow = kline_window(origin=origin)
    forecast = finished_forecast("id", window, forecast_request())[0]
    now_ms = window.last_close_time_ms + 10_000
    series = SeriesStatus(
        symbol=window.symbol,
        interval=window.interval,
        state=origin,
        venue=window.venue,
        origin=window.origin,
        ever_live=origin == "live",
        snapshot_id="0" * 16,
        last_open_time_ms=window.last_open_time_ms,
        checked_at_ms=now_ms - 5_000,
        next_fetch_at_ms=window.last_close_time_ms + HOUR_MS + 5_000,
        problem=None,
    )
    return Situation("BTCUSDT", Interval.H1, series, [series], forecast, None, 1), forecast, now_ms


@pytest.mark.parametrize("origin", ["live", "simulated", "recorded"])
def test_a_forecast_on_the_newest_candle_has_the_state_of_its_klines(origin: Origin) -> None:
    fresh = freshness(*situation(origin))
    assert (fresh.state, fresh.since, fresh.reason) == (origin, None, None)


def test_a_forecast_lives_until_the_next_one_is_overdue() -> None:
    now, forecast, _ = situation()
    due_ms = forecast.last_open_time_ms + 2 * HOUR_MS
    overdue_ms = due_ms + FETCHED_AFTER_MS + GRACE_MS + 1
    assert freshness(now, forecast, overdue_ms - 1).state == "live"
    stale = freshness(now, forecast, overdue_ms)
    assert stale.state == "stale"
    assert stale.since is not None
    assert stale.since.timestamp() * 1000 == due_ms
    assert "Ingest has not brought a newer candle" in (stale.reason or "")


def test_a_forecast_is_not_overdue_while_its_series_waits_for_its_own_moment_after_the_close() -> None:
    now, forecast, _ = situation()
    assert now.series is not None
    late_ms = 150_000  # one of thousands, each of which is fetched in its turn
    fetched_late = now.series.model_copy(update={"next_fetch_at_ms": now.series.next_fetch_at_ms + late_ms})
    overdue_ms = forecast.last_open_time_ms + 2 * HOUR_MS + FETCHED_AFTER_MS + late_ms + GRACE_MS + 1
    assert freshness(replace(now, series=fetched_late), forecast, overdue_ms - 1).state == "live"
    assert freshness(replace(now, series=fetched_late), forecast, overdue_ms).state == "stale"


def test_no_next_update_is_promised_where_ingest_is_silent() -> None:
    now, forecast, now_ms = situation()
    assert now.series is not None
    assert next_update(now, now_ms) is not None
    overdue_ms = now.series.next_fetch_at_ms + GRACE_MS + 1
    assert next_update(now, overdue_ms) is None
    assert freshness(now, forecast, overdue_ms).next_update is None


def test_a_recording_does_not_grow_old() -> None:
    now, forecast, now_ms = situation("recorded")
    assert freshness(now, forecast, now_ms + 1000 * HOUR_MS).state == "recorded"


def test_ingest_that_has_no_venue_makes_it_stale_at_once_and_says_why() -> None:
    now, forecast, now_ms = situation()
    assert now.series is not None
    silent = replace(now, series=now.series.model_copy(update={"state": "stale", "problem": "No venue answers."}))
    fresh = freshness(silent, forecast, now_ms)
    assert (fresh.state, fresh.reason) == ("stale", "No venue answers.")


def test_when_the_newest_forecast_failed_the_reason_is_told() -> None:
    now, forecast, now_ms = situation()
    assert now.series is not None
    newer = now.series.model_copy(update={"last_open_time_ms": forecast.last_open_time_ms + HOUR_MS})
    failed = JobStatus(id="x", state="failed", error="The model's file is damaged.")
    fresh = freshness(replace(now, series=newer, coming=failed), forecast, now_ms + 3 * HOUR_MS)
    assert fresh.reason == "Its forecast failed: The model's file is damaged."


def test_without_a_worker_the_missing_forecast_is_put_down_to_that() -> None:
    now, _, _ = situation()
    queued = JobStatus(id="x", state="queued", position=0)
    sentences = why_no_forecast(replace(now, latest=None, workers=0, coming=queued))
    assert sentences == [
        "No worker is alive; start one with `kronos-live worker`.",
        "Its forecast waits in the queue, 0 before it.",
    ]


def test_of_workers_that_fell_silent_it_is_told_since_when() -> None:
    now, _, _ = situation()
    silent = replace(now, latest=None, workers=0, silent_since=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC))
    assert why_no_forecast(silent)[0] == (
        "No worker has given a sign of life since 2026-01-02 03:04:05Z; start one with `kronos-live worker`."
    )


def test_without_ingest_the_missing_forecast_is_put_down_to_that() -> None:
    now, _, _ = situation()
    sentences = why_no_forecast(replace(now, latest=None, series=None, known_series=[]))
    assert "BTCUSDT 1h is not ingested here" in sentences[0]
    assert "kronos-live ingest" in sentences[1]


@pytest.mark.parametrize(
    ("origin", "source", "expected"),
    [
        ("live", "local", []),
        ("live", "hub", []),
        ("simulated", "bundled", ["SIMULATED DATA", "BUNDLED MODEL"]),
        ("recorded", "local", ["RECORDED DATA"]),
    ],
)
def test_only_what_is_not_as_configured_is_labelled(origin: Origin, source: str, expected: list[str]) -> None:
    assert labels(origin, source) == expected
