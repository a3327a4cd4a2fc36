"""A training that is stopped, or finds no room, says in one sentence how to go on, and what was kept stays whole."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from services.inference.training.training_log import LOG_FILE
from services.inference.weights import WEIGHTS_FILE, load_tokenizer
from tests.conftest import PROJECT
from tests.processes import eventually
from tests.unit.inference.test_training_command import DAYS, QUICK, configs, klines, run

__all__ = ["configs", "klines"]  # fixtures

ENDLESS = 10_000_000  # steps
MODEL, TOKENIZER = "Kronos-nano", "Kronos-Tokenizer-nano"


def command(
    klines: Path, out: Path, configs: list[str], *, tokenizer_steps: int = 2, model_steps: int = 2
) -> list[str]:
    steps = ["--tokenizer-steps", str(tokenizer_steps), "--model-steps", str(model_steps)]
    return ["train", str(klines), "--out", str(out), *QUICK, *DAYS, "--patience", "0", *steps, *configs]


def begin(command: list[str], *, largest_file: int | None = None) -> subprocess.Popen[str]:
    """`kronos-live` with a command, in a process that the system lets write files of that many bytes at most."""
    start = "from services.cli import main; main(prog_name='kronos-live')"
    if largest_file is not None:
        start = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({largest_file}, {largest_file})); {start}"
    return subprocess.Popen(
        [sys.executable, "-c", start, *command],
        cwd=PROJECT,
        env=os.environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def stopped(command: list[str], sent: signal.Signals, log: Path, lines: int) -> str:
    """What a run says that is stopped when its log has so many lines."""
    process = begin(command)
    try:
        eventually(lambda: process.poll() is not None or (log.exists() and log.read_bytes().count(b"\n") >= lines), 240)
        process.send_signal(sent)
        _, said = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode == 128 + sent, said
    assert "Traceback" not in said
    return said.strip().splitlines()[-1]


def test_a_stopped_run_says_how_to_go_on(klines: Path, configs: list[str], tmp_path: Path) -> None:
    out, log = tmp_path / "out", tmp_path / "out" / MODEL / LOG_FILE
    endless = command(klines, out, configs, model_steps=ENDLESS)
    said = stopped(endless, signal.SIGINT, log, lines=3)
    assert said == (
        f"kronos-live: stopped; the same command goes on from what is kept in '{out / 'state'}', and ends with the same weights."
    )
    trained = (out / TOKENIZER / LOG_FILE).read_text()
    assert json.loads(trained.splitlines()[-1])["step"] == 2
    before = (out / "state" / f"{TOKENIZER}.safetensors").stat().st_mtime_ns
    log.unlink()
    stopped(endless, signal.SIGINT, log, lines=1)
    assert (out / "state" / f"{TOKENIZER}.safetensors").stat().st_mtime_ns == before, "it is not trained once more"


def test_a_run_that_has_kept_nothing_yet_does_not_promise_to_go_on(
    klines: Path, configs: list[str], tmp_path: Path
) -> None:
    endless = command(klines, tmp_path / "out", configs, tokenizer_steps=ENDLESS)
    said = stopped(endless, signal.SIGTERM, tmp_path / "out" / TOKENIZER / LOG_FILE, lines=1)
    assert said == (
        "kronos-live: stopped; nothing was kept yet, which is done every 120 s, so the same command begins anew."
    )


def test_a_disk_without_room_is_told_and_the_same_command_goes_on(
    klines: Path, configs: list[str], tmp_path: Path
) -> None:
    """There is room for the tokenizer's state and not for the model's."""
    out, whole = tmp_path / "out", tmp_path / "whole"
    assert run(*command(klines, whole, configs)).exit_code == 0
    states = {name: (whole / "state" / f"{name}.safetensors").stat().st_size for name in (TOKENIZER, MODEL)}
    smaller, larger = sorted(states, key=lambda name: states[name])
    process = begin(command(klines, out, configs), largest_file=(states[smaller] + states[larger]) // 2)
    _, said = process.communicate(timeout=240)
    assert process.returncode == 1, said
    assert f"There is no room left for '{out}' (File too large): make some, and the same command goes on" in said
    assert "Traceback" not in said
    assert not [file for file in out.rglob("*") if file.suffix == ".unfinished" or file.name.startswith(".tmp")]
    if smaller == TOKENIZER:
        load_tokenizer(out / TOKENIZER)
    assert run(*command(klines, out, configs)).exit_code == 0
    for name in (TOKENIZER, MODEL):
        assert (out / name / WEIGHTS_FILE).read_bytes() == (whole / name / WEIGHTS_FILE).read_bytes()


def test_a_disk_that_is_full_when_the_card_is_written_is_told(klines: Path, configs: list[str], tmp_path: Path) -> None:
    (tmp_path / "out" / MODEL).mkdir(parents=True)
    (tmp_path / "out" / MODEL / "MODEL_CARD.md").symlink_to("/dev/full")
    result = run(*command(klines, tmp_path / "out", configs))
    assert result.exit_code == 1
    assert f"There is no room left for '{tmp_path / 'out'}' (No space left on device)" in result.stderr


@pytest.mark.parametrize("how", ["below a file", "not ours"])
def test_an_out_that_cannot_be_written_is_told(how: str, klines: Path, configs: list[str], tmp_path: Path) -> None:
    if how == "below a file":
        (tmp_path / "file").write_text("")
        out, why = tmp_path / "file" / "out", "Not a directory"
    else:
        if os.geteuid() == 0:
            pytest.skip("root may write everywhere")
        (tmp_path / "closed").mkdir(mode=0o500)
        out, why = tmp_path / "closed" / "out", "Permission denied"
    result = run(*command(klines, out, configs))
    assert result.exit_code == 2
    assert f"cannot be written ({why}): let it be written, or name another --out." in result.stderr
