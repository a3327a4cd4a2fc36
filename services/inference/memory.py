"""How the C library hands memory back: seldom, since a forecast asks for the same pieces thousands of times.

By default glibc maps each larger piece anew and returns it to the system when it is freed; the page faults of that took a
tenth of a forecast (docs/performance.md).
"""

from __future__ import annotations

import ctypes
import sys

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # malloc.h
LARGEST_PIECE = 32 * 2**20  # the most that glibc allows for M_MMAP_THRESHOLD
KEPT_FREE = 256 * 2**20


def keep_freed_memory() -> bool:
    """Let freed memory stay with this process, up to KEPT_FREE bytes; False where the C library is not glibc."""
    library = _glibc()
    return library is not None and bool(
        library.mallopt(M_MMAP_THRESHOLD, LARGEST_PIECE) and library.mallopt(M_TRIM_THRESHOLD, KEPT_FREE)
    )


def hand_back_freed_memory() -> None:
    """Give the system what was freed, where memory has run out: else it would stay with this process in pieces."""
    library = _glibc()
    if library is not None:
        library.malloc_trim(0)


def _glibc() -> ctypes.CDLL | None:
    if not sys.platform.startswith("linux"):
        return None
    library = ctypes.CDLL(None)
    return library if hasattr(library, "gnu_get_libc_version") else None
