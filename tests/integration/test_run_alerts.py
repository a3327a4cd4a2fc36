"""`kronos-live run` with alerts: a forecast that it made by itself is told to a webhook, once while the rule cools down."""

from __future__ import annotations

import signal
from pathlib import Path

from tests.alert_receiver import SECRET, receiver
from tests.conftest import free_port
from tests.integration.test_run import Run
from tests.processes import eventually

RULES = "[{when: upside_above, level: 0.01, cool_down: 86400}]"  # of 50 paths one is enough
NEXT_WITHIN_S = 240  # the candles are of a minute


def test_a_rule_that_holds_is_told_and_of_the_next_forecast_it_is_silent(tmp_path: Path) -> None:
    with receiver() as hook:
        run = Run(
            tmp_path,
            port=free_port(),
            KRONOS_DATA__INTERVAL="1m",
            KRONOS_SAMPLING__NUM_SAMPLES="50",
            KRONOS_ALERTS__ENABLED="true",
            KRONOS_ALERTS__CHANNELS=hook.address,
            KRONOS_ALERTS__RULES=RULES,
            KRONOS_ALERTS__PAGE_URL="https://kronos.example.org",
        )
        try:
            run.wait_for("Kronos Live: http://")
            assert any(command.endswith("kronos-live alerts run ") for command in run.commands())
            eventually(lambda: hook.received, NEXT_WITHIN_S, run.log)
            told = hook.received[0]
            page, _, forecast_id = told["message"].rpartition("/")
            assert page.endswith("https://kronos.example.org/forecasts")
            forecast = run.get(f"/api/v1/forecasts/{forecast_id}")["forecast"]
            assert (forecast["request"]["interval"], forecast["provenance"]["origin"]) == ("1m", "simulated")
            assert forecast["upside"]["value"] > 0.01
            assert told["title"].startswith("Kronos Live: ")
            assert told["title"].endswith("BTCUSDT 1m: upside above 1 %")
            assert "SIMULATED DATA" in told["title"] + told["message"]
            eventually(lambda: "cooling down" in run.log(), NEXT_WITHIN_S, run.log)
        finally:
            run.end(signal.SIGTERM)
    assert len(hook.received) == 1
    assert run.commands() == []
    assert SECRET not in run.log()
