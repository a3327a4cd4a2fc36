"""All services on one machine without Docker, kept together: what `kronos-live run` and `make demo` run.

honcho keeps the Procfile's processes together: when one ends, or on Ctrl+C, all end; when we are killed, too
(`kept_process`). Redis listens on a socket in the
folder of its data and on no port, so nothing else on the machine can meet it; where another is told, none is started.
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

from services.kept_process import REDIS, KeptProcess
from services.local_redis import alone_in, redis_server_binary, socket_for
from shared.errors import KronosLiveError
from shared.forecast_store import ForecastStore
from shared.forecasts import Forecast
from shared.kline_store import KlineStore
from shared.publishing import is_loopback
from shared.redis_connection import connect
from shared.settings import Settings, is_told, load_settings

PROJECT = Path(__file__).resolve().parent.parent
WORKER = "worker"  # its name in the Procfile


class HouseManager(Manager):
    """honcho, with three differences. A Ctrl+C that comes before every process has told its pid waits for that; Redis
    is the last to end, so that the others can store what they are at; and where this process is killed they end all the same.
    """

    _terminating: bool
    _asked_to_end = False
    _redis_asked_to_end = False

    def __init__(self, printer: Printer) -> None:
        super().__init__(printer)
        self._process_ctor = KeptProcess

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
            self._end([name for name in self._processes if name == REDIS])
        return bool(super()._all_stopped())

    def _others(self) -> list[str]:
        return [name for name in self._processes if name != REDIS]

    def _end(self, names: list[str]) -> None:
        for name in names:
            if "returncode" not in self._processes[name]:
                self._procmgr.terminate(self._processes[name]["pid"])


def run_services(folder: Path, workers: int) -> int:
    """Ingest, `workers` workers, the page where the settings say, and Redis with its data in `folder` unless redis.url is set;
    returns the exit code.

    Raises SettingsError where a setting is not as it may be, the folder is taken, or there is no Redis to start.
    """
    if sys.stdout.isatty() and not is_told("logs", "format"):
        os.environ["KRONOS_LOGS__FORMAT"] = "console"  # a person reads it, through honcho's pipe
    if is_told("redis", "url"):
        return _keep_together(workers, None)
    return run_with_redis(folder, workers, "end it first, or choose another --folder")


def run_with_redis(folder: Path, workers: int, what_if_taken: str) -> int:
    """The same with a Redis of our own in any case; `what_if_taken` ends the sentence on a folder that another uses."""
    folder = folder.resolve()
    with alone_in(folder, what_if_taken), socket_for(folder) as redis_socket:
        os.environ["KRONOS_REDIS__URL"] = f"unix://{redis_socket}"
        redis = {
            "REDIS_SERVER": str(redis_server_binary()),
            "REDIS_SOCKET": str(redis_socket),
            "REDIS_FOLDER": str(folder),
        }
        return _keep_together(workers, redis)


def _keep_together(workers: int, redis: dict[str, str] | None) -> int:
    """Run the Procfile's processes until one ends or we are told to; `redis` is what its line there reads, none for no Redis."""
    settings = load_settings()  # what is wrong with them is told before anything starts
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}",
        "PYTHONUNBUFFERED": "1",
        **(redis or {}),
    }
    manager = HouseManager(Printer(sys.stdout))
    for name, command in _processes(settings, workers).items():
        if name != REDIS or redis:
            manager.add_process(name, command, env=environment)
    if settings.web.port:  # of any free one its own log tells
        threading.Thread(target=_announce_first_forecast, args=(settings, bool(redis)), daemon=True).start()
    # A terminal that is closed ends it all like Ctrl+C.
    signal.signal(signal.SIGHUP, lambda *_: os.kill(os.getpid(), signal.SIGTERM))
    manager.loop()
    return int(manager.returncode or 0)


def _processes(settings: Settings, workers: int) -> dict[str, str]:
    """Command lines by name; several workers are counted from 1. Who publishes and who tells people come along where that is
    wanted.
    """
    listed: dict[str, str] = parse_procfile((PROJECT / "Procfile").read_text()).processes
    several = {f"{WORKER}.{number}": listed[WORKER] for number in range(1, workers + 1)}
    others = {name: command for name, command in listed.items() if name != WORKER}
    added = {}
    if settings.publish.enabled:
        added["publish"] = "exec kronos-live publish"
    if settings.alerts.enabled:
        added["alerts"] = "exec kronos-live alerts run"
    return {**others, **(several if workers > 1 else {WORKER: listed[WORKER]}), **added}


def _announce_first_forecast(settings: Settings, own_redis: bool) -> None:
    """Print the address once there is something to see."""
    redis = connect(settings.redis)
    klines = KlineStore(redis, settings.retention.snapshots_per_series)
    forecasts = ForecastStore(redis, settings.retention.forecasts_per_series)
    symbol, interval = settings.data.symbol, settings.data.interval
    host, port = settings.web.host, settings.web.port
    while True:
        try:
            series = klines.status(symbol, interval)
            forecast = forecasts.latest_scheduled(symbol, interval, series.origin) if series and series.origin else None
        except KronosLiveError:
            forecast = None  # Redis is still starting
        if forecast and _answers(host, port):
            kronos_live = Path(sys.executable).parent / "kronos-live"
            at = (
                f"KRONOS_REDIS__URL={settings.redis.url.get_secret_value()} " if own_redis else ""
            )  # ours has no password
            print(
                f"\n  Kronos Live: http://{host}:{port}   (first forecast: {forecast.id})\n"
                f"  {_what_it_shows(forecast)}\n"
                f"  From another shell: {at}{kronos_live} forecast --wait\n"
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


def _answers(host: str, port: int) -> bool:
    """Whether the page is there; beyond loopback it is asked for where every address of the machine listens."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((host if is_loopback(host) else "127.0.0.1", port)) == 0
