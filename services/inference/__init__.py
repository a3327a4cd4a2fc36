"""Kronos behind a queue: a worker that turns klines into forecasts."""

from __future__ import annotations

import os

# Before torch is imported, because its thread pool (GNU OpenMP) reads this once: how long a thread spins for the next
# piece of work before it sleeps. A forecast hands its threads tens of thousands of pieces, and waking a sleeping one
# costs about as much as a piece takes; but threads that spin for long are in the way of whatever else the machine does
# (docs/performance.md has the figures of both). A person's own setting wins.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "20000")
