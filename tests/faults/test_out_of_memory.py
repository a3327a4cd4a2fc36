"""A process that may have no more memory draws fewer paths side by side, to the same end, and says when even those do not fit."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from tests.conftest import PROJECT
from tests.faults.recovery import Recovery

# Draws all paths at once; then may have only so many MiB more than it has, and draws again.
SCRIPT = """
import json, resource, sys, time
import numpy as np
from services.inference import path_sampler
from shared.errors import OutOfMemoryError
from tests.unit.inference.tiny import options, random_context, tiny_engine

paths, context, more = int(sys.argv[2]), random_context(300, 64, 512), int(sys.argv[1]) << 20
path_sampler.BYTES_AT_ONCE["cpu"] = 8 << 30
path_sampler.sample_paths(tiny_engine(), context, options(8))
free = path_sampler.sample_paths(tiny_engine(), context, options(paths)) if more else None
engine = tiny_engine()
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
began = time.monotonic()
resource.setrlimit(resource.RLIMIT_AS, (used + more, resource.RLIM_INFINITY))
try:
    tight = path_sampler.sample_paths(engine, context, options(paths))
except OutOfMemoryError as error:
    print(json.dumps({"error": error.message}))
else:
    same = np.array_equal(free.s1, tight.s1) and np.array_equal(free.s2, tight.s2)
    print(json.dumps({"same": bool(same), "seconds": time.monotonic() - began}))
"""


def drawn_with(more_mib: int, paths: int) -> tuple[dict[str, object], str]:
    ended = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(more_mib), str(paths)],
        cwd=PROJECT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},  # each further thread would take room of its own
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr[-2000:]
    said = [line for line in ended.stdout.splitlines() if line.startswith("{") and "event" not in line]
    return json.loads(said[-1]), ended.stdout + ended.stderr


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits memory as Linux does")
def test_where_memory_runs_out_fewer_paths_go_side_by_side_and_are_the_same(recovery: Recovery) -> None:
    told, log = drawn_with(100, 1200)
    assert told["same"] is True
    recovery.took(float(str(told["seconds"])))
    assert "out_of_memory" in log, "it was to run out"
