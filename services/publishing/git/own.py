"""Whether an address is the repository that Kronos Live itself is checked out from: no site is written there unasked."""

from __future__ import annotations

import subprocess
from pathlib import Path

from services.publishing.git.address import Address
from services.publishing.git.program import surroundings

PATIENCE_S = 30


def is_own_repository(address: Address, project: Path) -> bool:
    """By its folder, or as a remote of it. Where the project is no checkout (in an image) there is nothing to compare."""
    own = _common_folder(project)
    if own is None:
        return False
    if address.folder is not None:
        there = _common_folder(address.folder) or address.folder
        return there == own or any(there == remote.folder for remote in _remotes(project))
    return any(address.place == remote.place for remote in _remotes(project) if remote.folder is None)


def _common_folder(folder: Path) -> Path | None:
    """Where the repository of a folder is, that of all its work trees; None where it is the top of none."""
    if not folder.is_dir() or not ((folder / ".git").exists() or (folder / "HEAD").exists()):
        return None
    told = _asked(folder, "rev-parse", "--path-format=absolute", "--git-common-dir")
    return Path(told).resolve() if told else None


def _remotes(project: Path) -> list[Address]:
    listed = _asked(project, "config", "--get-regexp", r"^remote\..*\.(url|pushurl)$")
    return [Address(line.split(" ", 1)[1]) for line in listed.splitlines() if " " in line]


def _asked(folder: Path, *words: str) -> str:
    """What git says of a folder; nothing where it does not know, or is not there."""
    command = ["git", "-C", str(folder), *words]
    try:
        done = subprocess.run(
            command, env=surroundings(), capture_output=True, text=True, timeout=PATIENCE_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
