"""The whole house on one machine without Docker: what `make demo` runs.

honcho keeps the Procfile's processes together: when one ends, or on Ctrl+C, all end. Redis listens on a socket in the
demo's folder and on no port, so nothing else on the machine can meet it.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
import time
from pathlib import Path

from honcho.environ import parse_procfile
from honcho.manager import Manager
from honcho.printer import Printer

from services.local_redis import alone_in, redis_server_binary, socket_for
from shared.errors import KronosLiveError, SettingsError
from shared.forecast_store import ForecastStore
from shared.forecasts import Forecast
from shared.kline_store import KlineStore
from shared.redis_connection import connect
from shared.settings import Settings, load_settings

PROJECT = Path(__file__).resolve().parent.parent
REDIS = "redis"  # its name in the Procfile
ANOTHER_FOLDER = (
    "end it first, or choose another folder with DEMO_FOLDER, as in `make demo DEMO_PORT=8010 DEMO_FOLDER=.demo-2`"
)


class HouseManager(Manager):
    """honcho, with two differences. A Ctrl+C that comes before every process has told its pid waits for that; and Redis
    is the last to end, so that the others can store what they are at.
    """

    _terminating: bool
    _asked_to_end = False
    _redis_asked_to_end = False

    def terminate(self) -> None:
        self._asked_to_end = True
        if self._all_started() and not self._terminating:
            self._terminating = True
            self._end(self._others())

    def _any_stopped(self) -> bool:
        return self._asked_to_end or bool(super()._any_stopped())

    def _all_stopped(self) -> bool:
        others_ended = all("returncode" in self._processes[name] for name in self._others())
        if self._terminating and others_ended and not self._redis_asked_to_end:
            self._redis_asked_to_end = True
            self._end([REDIS])
        return bool(super()._all_stopped())

    def _others(self) -> list[str]:
        return [name for name in self._processes if name != REDIS]

    def _end(self, names: list[str]) -> None:
        for name in names:
            if "returncode" not in self._processes[name]:
                self._procmgr.terminate(self._processes[name]["pid"])


def run_demo(folder: Path, port: int) -> int:
    """Start Redis, ingest, one worker and the page on 127.0.0.1:`port`, with data in `folder`; returns the exit code.

    Raises SettingsError where the port or the folder is taken, or where there is no Redis to start.
    """
    _refuse_taken_port(port)
    folder = folder.resolve()
    with alone_in(folder, ANOTHER_FOLDER), socket_for(folder) as redis_socket:
        os.environ.update(
            KRONOS_REDIS__URL=f"unix://{redis_socket}",
            KRONOS_WEB__HOST="127.0.0.1",
            KRONOS_WEB__PORT=str(port),
        )
        os.environ.setdefault("KRONOS_LOGS__FORMAT", "console")  # a person reads it, through honcho's pipe
        settings = load_settings()
        manager = _manager(folder, redis_socket)
        threading.Thread(target=_announce_first_forecast, args=(settings, port, redis_socket), daemon=True).start()
        # A terminal that is closed ends the demo like Ctrl+C.
        signal.signal(signal.SIGHUP, lambda *_: os.kill(os.getpid(), signal.SIGTERM))
        manager.loop()
    return int(manager.returncode or 0)


def _manager(folder: Path, redis_socket: Path) -> HouseManager:
    """The Procfile's processes, ready to start."""
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}",
        "PYTHONUNBUFFERED": "1",
        "REDIS_SERVER": str(redis_server_binary()),
        "REDIS_SOCKET": str(redis_socket),
        "REDIS_FOLDER": str(folder),
    }
    manager = HouseManager(Printer(sys.stdout))
    for name, command in parse_procfile((PROJECT / "Procfile").read_text()).processes.items():
        manager.add_process(name, command, env=environment)
    return manager


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


def _announce_first_forecast(settings: Settings, port: int, redis_socket: Path) -> None:
    """Print the address once there is something to see."""
    redis = connect(settings.redis)
    klines = KlineStore(redis, settings.retention.snapshots_per_series)
    forecasts = ForecastStore(redis, settings.retention.forecasts_per_series)
    symbol, interval = settings.data.symbol, settings.data.interval
    while True:
        try:
            series = klines.status(symbol, interval)
            forecast = forecasts.latest_scheduled(symbol, interval, series.origin) if series and series.origin else None
        except KronosLiveError:
            forecast = None  # Redis is still starting
        if forecast and _answers(port):
            kronos_live = Path(sys.executable).parent / "kronos-live"
            print(
                f"\n  Kronos Live: http://127.0.0.1:{port}   (first forecast: {forecast.id})\n"
                f"  {_what_it_shows(forecast)}\n"
                f"  From another shell: KRONOS_REDIS__URL=unix://{redis_socket} {kronos_live} forecast --wait\n"
                f"  Ctrl+C stops everything.\n",
                flush=True,
            )
            return
        time.sleep(0.2)


def _what_it_shows(forecast: Forecast) -> str:
    """In one line, from which data and model: what is made up or stands in is said in capitals here too."""
    made_by = forecast.provenance
    klines = f"klines from {made_by.venue}" if made_by.origin == "live" else f"{made_by.origin.upper()} klines"
    model = made_by.model.name
    if made_by.model_stands_in_for:
        return f"{klines}; BUNDLED MODEL {model} stands in for {made_by.model_stands_in_for}: {made_by.model_stands_in_because}"
    return f"{klines}; {model} ({made_by.model.source})"


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0
