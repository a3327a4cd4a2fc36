"""What a person reads: what, of which series, which value, which level, when, and where it came from."""

from __future__ import annotations

from dataclasses import replace

from services.alerts import messages
from services.alerts.judging import judge_forecast, judge_series
from shared.alert_rules import MissedUpdate, UpsideAbove
from tests.unit.alerts.test_judging import HOUR_MS, forecast, share, standing

RULE = UpsideAbove(when="upside_above", level=0.7)
PAGE = "https://kronos.example.org/"


def test_a_forecasts_message_says_it_all() -> None:
    stands, now_ms = standing()
    made = forecast(upside=share(74), id="BTCUSDT-1h-20250117T150000Z")
    message = messages.of_forecast(RULE, judge_forecast(RULE, made), made, stands.status, now_ms, PAGE)
    assert (message.kind, message.title) == ("alert", "Kronos Live: BTCUSDT 1h: upside above 70 %")
    what, whence, link = message.body.split("\n")
    assert what == (
        "BTCUSDT 1h has 74.0 % upside probability (74 of 100 paths, 95 % interval 69.0 % to 79.0 %), above the level of 70 %."
    )
    assert whence.startswith(
        "Forecast BTCUSDT-1h-20250117T150000Z: 24 candles after the one of 2025-01-17 15:00:00Z on live candles of Binance, made "
    )
    assert whence.endswith("Z by Kronos-small.")
    assert link == "https://kronos.example.org/forecasts/BTCUSDT-1h-20250117T150000Z"


def test_what_must_not_be_overlooked_stands_in_the_title_too() -> None:
    stands, now_ms = standing("simulated")
    made = forecast("simulated", upside=share(74))
    late_ms = now_ms + 3 * HOUR_MS
    message = messages.of_forecast(RULE, judge_forecast(RULE, made), made, stands.status, late_ms, "")
    assert message.title == "Kronos Live: [SIMULATED DATA] [STALE] BTCUSDT 1h: upside above 70 %"
    assert "SIMULATED DATA: made from simulated candles, of no market." in message.body
    assert "STALE: a newer forecast has been due since 2025-01-17 17:00:00Z." in message.body
    assert "http" not in message.body


def test_a_rule_is_called_as_it_is_named() -> None:
    stands, now_ms = standing()
    made = forecast(upside=share(74))
    rule = RULE.model_copy(update={"name": "Going up?"})
    message = messages.of_forecast(rule, judge_forecast(rule, made), made, stands.status, now_ms, PAGE)
    assert message.title.endswith("BTCUSDT 1h: Going up?")


def test_of_the_system_it_is_told_when_it_was_seen_and_when_it_is_over() -> None:
    stands, now_ms = standing()
    rule = MissedUpdate(when="missed_update")
    late_ms = now_ms + 2 * HOUR_MS
    begun = messages.of_system(rule, judge_series(rule, stands, late_ms), stands.series, late_ms, PAGE)
    assert (begun.kind, begun.title) == ("alert", "Kronos Live: BTCUSDT 1h: missed update")
    assert begun.body.startswith("BTCUSDT 1h has had no new forecast since one was due at 2025-01-17 17:00:00Z")
    assert "Seen at 2025-01-17 18:00:10Z" in begun.body
    assert begun.body.endswith("https://kronos.example.org/?symbol=BTCUSDT&interval=1h")
    over = messages.of_end(rule, judge_series(rule, stands, now_ms), stands.series, now_ms, late_ms, PAGE)
    assert (over.kind, over.title) == ("over", "Kronos Live: over: BTCUSDT 1h: missed update")
    assert "BTCUSDT 1h has the forecast that it should have" in over.body
    assert "Over at 2025-01-17 18:00:10Z, after it was seen at 2025-01-17 16:00:10Z." in over.body


def test_what_is_of_no_series_names_none() -> None:
    stands, now_ms = standing()
    rule = MissedUpdate(when="missed_update")
    judged = judge_series(rule, replace(stands, latest=None), now_ms)
    assert messages.of_system(rule, judged, None, now_ms, "").title == "Kronos Live: missed update"
