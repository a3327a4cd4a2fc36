"""A git repository with a history of pages as the original demo publishes them, with figures of our own."""

from __future__ import annotations

import os
import subprocess
from datetime import UTC, datetime
from pathlib import Path

FIRST = datetime(2025, 3, 1, 12, tzinfo=UTC)
FIRST_MS = int(FIRST.timestamp()) * 1000
HOUR_MS = 3_600_000

_PAGE = """<!DOCTYPE html>
<html lang="en">
<head><meta charset="UTF-8"><title>Forecast</title>
<script>document.write('<p id="upside-prob">99.9%</p>')</script></head>
<body>
<!-- <p id="upside-prob">1.0%</p> -->
<p>Updated (UTC): <strong id="update-time">{time}</strong></p>
<div class="card"><p class="metric-value" id="upside-prob">{upside}</p></div>
<div class="card"><p class="metric-value" id="vol-amp-prob">{amplification}</p></div>
<img src="prediction_chart.png" alt="">
</body>
</html>
"""


def page(time: str, upside: str = "46.7%", amplification: str = "6.7%") -> bytes:
    return _PAGE.format(time=time, upside=upside, amplification=amplification).encode()


def at(hour: float, second: int = 26) -> str:
    """The update time of that many hours after the first update's hour."""
    moment = datetime.fromtimestamp(FIRST.timestamp() + hour * 3600 + second, UTC)
    return f"{moment:%Y-%m-%d %H:%M:%S}"


class DemoRepository:
    """A work tree that somebody publishes to."""

    def __init__(self, folder: Path, branch: str = "main") -> None:
        self.folder = folder
        folder.mkdir()
        self.git("init", "--quiet", f"--initial-branch={branch}")

    def git(self, *words: str, author_time: int = FIRST_MS // 1000) -> str:
        identity = {
            f"GIT_{who}_{what}": "demo@example.invalid" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")
        }
        dates = {"GIT_AUTHOR_DATE": f"{author_time} +0000", "GIT_COMMITTER_DATE": f"{author_time} +0000"}
        return subprocess.run(
            ["git", "-C", str(self.folder), *words],
            env={**os.environ, **identity, **dates, "GIT_CONFIG_GLOBAL": os.devnull},
            check=True,
            capture_output=True,
            text=True,
        ).stdout.strip()

    def publish(self, hour: float, upside: str = "46.7%", amplification: str = "6.7%") -> str:
        """An update of that hour after the first, committed half a minute later; returns its commit."""
        return self.commit(page(at(hour), upside, amplification), hour)

    def commit(self, content: bytes, hour: float, picture: bytes | None = None) -> str:
        """Any page, committed a minute after that hour."""
        (self.folder / "index.html").write_bytes(content)
        (self.folder / "prediction_chart.png").write_bytes(picture or f"chart {hour}".encode())
        self.git("add", ".")
        self.git("commit", "--quiet", "--message", "update", author_time=int(FIRST_MS // 1000 + hour * 3600 + 60))
        return self.git("rev-parse", "HEAD")
