"""How many processor cores this process may use."""

from __future__ import annotations

import os
from pathlib import Path

CGROUP_CPU_LIMIT = Path("/sys/fs/cgroup/cpu.max")


def cores_available(neighbours: int = 1, cgroup_limit: Path = CGROUP_CPU_LIMIT) -> int:
    """This process's share of the cores, at least one, where `neighbours` workers (itself included) are on the machine.

    The machine's cores are divided; the limit of a container is its own already. `cgroup_limit` holds '<quota> <period>'
    in microseconds, or 'max <period>' for no limit (Linux, control groups v2).
    """
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    share = max(1, allowed // max(1, neighbours))
    try:
        quota, period = cgroup_limit.read_text().split()
    except (OSError, ValueError):
        return share
    return share if quota == "max" else max(1, min(allowed, int(quota) // int(period)))
