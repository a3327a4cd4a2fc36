"""How long recovery took, as each test of a fault says in its output."""

from __future__ import annotations

import time

import pytest

RECOVERY_S = "recovery_s"


class Recovery:
    """The time from when a fault has struck, or was lifted, until all that it held up is there."""

    def __init__(self, item: pytest.Item) -> None:
        self._item = item
        self._since = time.monotonic()

    def begins(self) -> None:
        self._since = time.monotonic()

    def has_ended(self) -> None:
        self.took(time.monotonic() - self._since)

    def took(self, seconds: float) -> None:
        """Where another process has measured it."""
        self._item.user_properties.append((RECOVERY_S, seconds))
