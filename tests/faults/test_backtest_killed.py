"""A backtest is killed with all its processes at work: none of them stays, and the next run makes what is missing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import PROJECT
from tests.faults.recovery import Recovery
from tests.processes import eventually
from tests.tiny_models import write_tiny_models
from tests.unit.inference.test_backtest import write_klines

pytestmark = pytest.mark.slow


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks for processes in /proc")
def test_a_killed_backtest_goes_on_where_it_was_and_leaves_no_process(tmp_path: Path, recovery: Recovery) -> None:
    out, environment = (
        tmp_path / "out",
        {
            **os.environ,
            "KRONOS_MODEL__LOCAL_DIR": str(write_tiny_models(tmp_path / "models")),
            "KRONOS_MODEL__ALLOW_HUB": "false",
        },
    )
    command = [sys.executable, "-m", "services.cli", "backtest", str(write_klines(tmp_path, 24 * 12))]
    command += ["--from", "2025-01-05", "--to", "2025-01-09", "--every", "2h", "--paths", "200", "--history", "64"]
    command += ["--horizon", "24", "--jobs", "2", "--json", "--out", str(out)]
    lines = out / "forecasts.jsonl"
    first = subprocess.Popen(
        command, cwd=PROJECT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        eventually(lambda: lines.exists() and lines.read_bytes().count(b"\n") > 3, 60)
        children = [child for child in _children(first.pid) if "spawn_main" in _command(child)]
        assert len(children) == 2
    finally:
        first.send_signal(signal.SIGKILL)
        first.wait(timeout=10)
    recovery.begins()
    made = lines.read_bytes().count(b"\n")
    eventually(lambda: not [child for child in children if "spawn_main" in _command(child)], 20)
    again = subprocess.run(
        command, check=False, cwd=PROJECT, env=environment, capture_output=True, text=True, timeout=250
    )
    assert again.returncode == 0, again.stderr
    recovery.has_ended()
    record = json.loads(again.stdout)
    ids = [json.loads(line)["forecast"]["id"] for line in lines.read_text().splitlines()]
    assert 3 < made < len(ids), "it was to die half way"
    assert len(ids) == len(set(ids)) == record["forecasts"]


def _children(pid: int) -> list[int]:
    return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")
    except FileNotFoundError:
        return ""
