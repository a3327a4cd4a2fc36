"""What `make demo` runs: all services on this machine (`house`), with a folder and a port of the demo's own."""

from __future__ import annotations

import os
import socket
from pathlib import Path

from services.house import run_with_redis
from shared.errors import SettingsError

ANOTHER_FOLDER = (
    "end it first, or choose another folder with DEMO_FOLDER, as in `make demo DEMO_PORT=8010 DEMO_FOLDER=.demo-2`"
)


def run_demo(folder: Path, port: int) -> int:
    """Start Redis, ingest, one worker and the page on 127.0.0.1:`port`, with data in `folder`; returns the exit code.

    Raises SettingsError where the port or the folder is taken, or where there is no Redis to start.
    """
    _refuse_taken_port(port)
    os.environ.update(KRONOS_WEB__HOST="127.0.0.1", KRONOS_WEB__PORT=str(port))
    os.environ.setdefault("KRONOS_LOGS__FORMAT", "console")  # a person reads it, through honcho's pipe
    return run_with_redis(folder, 1, ANOTHER_FOLDER)


def _refuse_taken_port(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a port that we left a moment ago is free
        try:
            probe.bind(("127.0.0.1", port))
        except (OSError, OverflowError) as error:
            raise SettingsError(
                f"Port {port} on 127.0.0.1 cannot be used for the page ({error}): "
                f"choose another with DEMO_PORT, as in `make demo DEMO_PORT=8010`."
            ) from None
