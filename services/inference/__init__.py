"""Kronos behind a queue: a worker that turns klines into forecasts."""

from __future__ import annotations

import os

# Before torch is imported, because its thread pool reads this once. By default its threads spin while they wait for
# each other; on a machine that does anything else besides, that made a forecast ten times slower here. A person's own
# setting wins.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
