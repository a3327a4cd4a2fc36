"""How the memory of the processes that nobody kills grows while a soak runs. Reads /proc, so Linux alone."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from tests.processes import Service

SETTLED = (0.2, 0.4)  # of a run: by then all that is made once has been made
LAST = (0.8, 1.0)


@dataclass
class MemoryBook:
    """Resident MiB of each, with how far the run was, from 0 to 1."""

    samples: dict[str, list[tuple[float, float]]] = field(default_factory=dict)

    def note(self, far: float, services: dict[str, Service]) -> None:
        for name, one in services.items():
            self.samples.setdefault(name, []).append((far, resident_mib(one.process.pid)))

    def growth_percent(self) -> dict[str, float]:
        """From when each had settled to its end, by the medians of both; none for a run too short to tell."""
        told = {}
        for name, samples in self.samples.items():
            before, after = ([mib for far, mib in samples if low <= far <= high] for low, high in (SETTLED, LAST))
            if before and after:
                told[name] = 100 * (median(after) / median(before) - 1)
        return told

    def last_mib(self) -> dict[str, float]:
        return {name: samples[-1][1] for name, samples in self.samples.items()}


def resident_mib(pid: int) -> float:
    """Of a process and its children, as gunicorn has one."""
    statuses = [Path(f"/proc/{one}/status").read_text() for one in (pid, *_children(pid))]
    resident = [line for status in statuses for line in status.splitlines() if line.startswith("VmRSS:")]
    return sum(int(line.split()[1]) for line in resident) / 1024


def _children(pid: int) -> list[int]:
    return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
