"""Workers share a machine's cores; a container's limit is its own."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from services.inference.processors import cores_available


@pytest.fixture
def eight_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: set(range(8)), raising=False)


@pytest.mark.usefixtures("eight_cores")
@pytest.mark.parametrize(
    ("limit", "neighbours", "cores"),
    [
        ("max 100000", 1, 8),
        ("max 100000", 3, 2),
        ("max 100000", 20, 1),
        ("200000 100000", 3, 2),
        ("50000 100000", 1, 1),
        ("1600000 100000", 1, 8),
        ("nonsense", 2, 4),
    ],
)
def test_cores_are_shared_and_limits_are_kept(tmp_path: Path, limit: str, neighbours: int, cores: int) -> None:
    (tmp_path / "cpu.max").write_text(limit)
    assert cores_available(neighbours, tmp_path / "cpu.max") == cores


@pytest.mark.usefixtures("eight_cores")
def test_without_control_groups_all_cores_are_ours(tmp_path: Path) -> None:
    assert cores_available(1, tmp_path / "absent") == 8
