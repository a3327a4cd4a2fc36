from __future__ import annotations

import subprocess
import sys

import pytest

FAULTS_OF_A_FORECAST = """
import resource, sys
from benchmarks.models import random_modules, random_walk
from services.inference.engine import FLOAT32, pack
from services.inference.memory import keep_freed_memory
from services.inference.path_sampler import SamplingOptions, sample_paths

if sys.argv[1] == "kept":
    assert keep_freed_memory()
engine, context = pack(*random_modules("Kronos-mini"), FLOAT32, 512), random_walk(360, 12, 512)
options = SamplingOptions(num_samples=30, temperature=1.0, top_k=0, top_p=1.0, seed=0)
for _ in range(3):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    sample_paths(engine, context, options)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def _faults(how: str) -> int:
    ran = subprocess.run([sys.executable, "-c", FAULTS_OF_A_FORECAST, how], capture_output=True, text=True, check=True)
    return int(ran.stdout)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only glibc takes these settings")
def test_a_forecast_uses_the_memory_of_the_one_before_it() -> None:
    kept, as_ever = _faults("kept"), _faults("as ever")
    assert kept < as_ever / 4, (kept, as_ever)
