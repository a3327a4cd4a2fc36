"""Each image holds the rooms that its Dockerfile copies and no others: what it starts must not need one that is missing."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from tests.conftest import PROJECT


def copied(dockerfile: Path) -> list[str]:
    """The project's own paths that the last stage of an image copies."""
    last_stage = dockerfile.read_text().rsplit("\nFROM ", 1)[1]
    lines = [line.split()[1:] for line in last_stage.splitlines() if line.startswith("COPY ")]
    return [paths[0] for paths in lines if not paths[0].startswith("--from")]


@pytest.mark.parametrize(
    ("service", "command"),
    [
        ("ingest", "ingest"),
        ("inference", "worker"),
        ("web", "web"),
        ("publishing", "publish"),
        ("publishing", "export"),
        ("alerts", "alerts"),
    ],
)
def test_its_command_line_starts_with_what_an_image_holds(service: str, command: str, tmp_path: Path) -> None:
    paths = copied(PROJECT / "services" / service / "Dockerfile")
    assert f"services/{service}" in paths
    for path in paths:
        target, source = tmp_path / path, PROJECT / path
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target)
        else:
            shutil.copy(source, target)
    shown = subprocess.run(
        [
            sys.executable,
            "-S",
            "-m",
            "services.cli",
            command,
            "--help",
        ],  # -S: libraries, but not this checkout among them
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": f"{tmp_path}:{sysconfig.get_path('purelib')}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert shown.returncode == 0, shown.stderr
    assert "Usage:" in shown.stdout
