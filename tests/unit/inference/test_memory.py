from __future__ import annotations

import subprocess
import sys

import pytest

FAULTS_OF_A_LOOP = """
import resource, sys
from services.inference.memory import keep_freed_memory
import torch

if sys.argv[1] == "kept":
    assert keep_freed_memory()

def work():
    for _ in range(50):
        pieces = [torch.ones(3 * 2**20) for _ in range(6)]

work()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
work()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def _faults(how: str) -> int:
    ran = subprocess.run([sys.executable, "-c", FAULTS_OF_A_LOOP, how], capture_output=True, text=True, check=True)
    return int(ran.stdout)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only glibc takes these settings")
def test_freed_memory_is_used_again_without_asking_the_system() -> None:
    assert _faults("kept") < 100 < _faults("as ever")
