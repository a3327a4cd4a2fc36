"""A file that one process at a time holds: the system lets go of it when its holder ends, however that ends."""

from __future__ import annotations

import fcntl
from typing import IO


def taken(file: IO[str]) -> bool:
    """Whether the open file is ours from now on, until it is closed; False where another holds it."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
