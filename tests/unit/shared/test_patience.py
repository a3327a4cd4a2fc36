"""Work side by side ends at a signal, whichever thread the system hands it to."""

from __future__ import annotations

import subprocess
import sys

SIGNAL_TO_ANOTHER_THREAD = """
import signal, threading, time
from shared.patience import side_by_side

signal.signal(signal.SIGTERM, signal.default_int_handler)

def sleeps():
    time.sleep(1)  # the main thread waits by then
    signal.pthread_kill(threading.get_ident(), signal.SIGTERM)
    time.sleep(100)

try:
    side_by_side([sleeps, lambda: time.sleep(100)])
except KeyboardInterrupt:
    print("ended")
"""


def test_a_signal_that_another_thread_was_given_ends_what_works_side_by_side() -> None:
    ran = subprocess.run(
        [sys.executable, "-c", SIGNAL_TO_ANOTHER_THREAD], capture_output=True, text=True, timeout=50, check=True
    )
    assert ran.stdout == "ended\n", ran.stderr
