from __future__ import annotations

import subprocess
import sys

import pytest

# Six pieces of 24 MB, taken, written and freed, as a forecast does with its caches. Of its own accord glibc keeps at most
# twice the largest piece that it has seen. Not a forecast itself: how far that gets with so little differs by processor.
FAULTS_OF_A_ROUND = """
import resource, sys
from services.inference.memory import keep_freed_memory

if sys.argv[1] == "kept":
    assert keep_freed_memory()
for _ in range(3):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    pieces = [bytearray(24 * 2**20) for _ in range(6)]
    del pieces
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def _faults(how: str) -> int:
    ran = subprocess.run([sys.executable, "-c", FAULTS_OF_A_ROUND, how], capture_output=True, text=True, check=True)
    return int(ran.stdout)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only glibc takes these settings")
def test_freed_memory_is_used_again() -> None:
    kept, as_ever = _faults("kept"), _faults("as ever")
    assert kept < as_ever / 4, (kept, as_ever)
