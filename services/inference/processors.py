"""How many processor cores this process may use."""

from __future__ import annotations

import os
from pathlib import Path

CGROUP_CPU_LIMIT = Path("/sys/fs/cgroup/cpu.max")


def cores_available(cgroup_limit: Path = CGROUP_CPU_LIMIT) -> int:
    """Cores that the scheduler lets this process use, fewer where its container has a limit; at least one.

    `cgroup_limit` holds '<quota> <period>' in microseconds, or 'max <period>' for no limit (Linux, control groups v2).
    """
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = cgroup_limit.read_text().split()
    except (OSError, ValueError):
        return allowed
    return allowed if quota == "max" else max(1, min(allowed, int(quota) // int(period)))
