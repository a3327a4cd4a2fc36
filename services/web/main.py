"""Starts the web service: one gunicorn process with threads for requests and one for all streams, on a socket of our own.

The socket is bound here and handed over, so that a taken port is told in one sentence and port 0 can be named.
"""

from __future__ import annotations

import resource
import socket
import time
from contextlib import suppress
from typing import Any

from flask import Flask
from gunicorn.app.base import BaseApplication
from gunicorn.glogging import Logger
from gunicorn.workers.gthread import ThreadWorker

from services.web.app import create_app
from shared.errors import SettingsError
from shared.forecast_queue import ForecastQueue
from shared.forecast_store import ForecastStore
from shared.kline_store import KlineStore
from shared.logs import configure_logs, get_logger
from shared.publishing import refuse_public_without_token
from shared.rate_limits import RateLimits
from shared.redis_connection import connect
from shared.settings import Settings, WebSettings

HEAD_WITHIN_S = 10  # for the first lines of a request, which fit into a packet or two
STOP_WITHIN_S = 1  # what a running request may still take once we are told to end
REDIS_ANSWERS_WITHIN_S = 2  # nothing that is asked for here takes Redis long
BACKLOG = 512  # connections that wait to be accepted: many pages come back at once after a restart
OTHER_FILES = 512  # open files beside the streams: requests, Redis, our own

log = get_logger(__name__)


def run(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT. Raises SettingsError where the address cannot be had, or anybody could write."""
    refuse_public_without_token(settings.web)
    configure_logs(settings.logs, "web")
    app = _application(settings)
    _allow_open_files(settings.web.max_streams)
    listener = listen(settings.web)
    log.info("listening", address=address(listener))
    Gunicorn(app, settings.web, listener).run()


def _application(settings: Settings) -> Flask:
    """Connects lazily, so it may be made before gunicorn forks."""
    redis = connect(settings.redis, answer_timeout_s=REDIS_ANSWERS_WITHIN_S)
    return create_app(
        settings,
        KlineStore(redis, settings.retention.snapshots_per_series),
        ForecastStore(redis, settings.retention.forecasts_per_series),
        ForecastQueue(redis, settings.queue),
        RateLimits(redis),
    )


def _allow_open_files(streams: int) -> None:
    """Each stream is an open file, and a process is often allowed only 1024 unless it asks for more."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = streams + OTHER_FILES
    if soft != resource.RLIM_INFINITY and soft < wanted:
        allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
        if allowed < wanted:
            log.warning("fewer_streams_than_configured", open_files_allowed=allowed, web_max_streams=streams)


def listen(web: WebSettings) -> socket.socket:
    """A listening socket on web.host and web.port. Raises SettingsError that names the knob to turn."""
    try:
        family, kind, protocol, _, place = socket.getaddrinfo(
            web.host, web.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except OSError as error:
        raise SettingsError(
            f"web.host (KRONOS_WEB__HOST) is {web.host!r}, which is no address here: {error}."
        ) from None
    listener = socket.socket(family, kind, protocol)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a port that we left a moment ago is free
    try:
        listener.bind(place)
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise SettingsError(
            f"Port {web.port} on {web.host} cannot be used ({error.strerror}): choose another with web.port "
            f"(KRONOS_WEB__PORT), or 0 for any free one."
        ) from None
    return listener


def address(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


class Gunicorn(BaseApplication):
    """gunicorn on an application and a socket that are already there; it reads no file and no environment."""

    def __init__(self, app: Flask, web: WebSettings, listener: socket.socket) -> None:
        self._app = app
        self.request_within_s = web.request_seconds  # gunicorn's own timeout is for its process, and not for a request
        self._options = {
            "bind": f"fd://{listener.detach()}",
            "worker_class": Worker,
            "workers": 1,
            "threads": web.threads,
            "graceful_timeout": STOP_WITHIN_S,
            "control_socket_disable": True,  # it would be written below the home folder
            "loglevel": "warning",
            "logger_class": PropagatingLogger,
            "proc_name": "kronos-live web",
        }
        super().__init__()

    def load_config(self) -> None:
        for name, value in self._options.items():
            self.cfg.set(name, value)

    def load(self) -> Flask:
        return self._app


class Worker(ThreadWorker):
    """gthread, with two differences. It leaves a connection alone whose socket a stream of events has taken over. And it hangs
    up on whoever is too slow: a thread waits for what a client sends, so a few that never end would hold up everybody.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._request_within_s = self.app.request_within_s
        self._hang_up_at: dict[Any, float] = {}  # by connection that has a thread

    def handle(self, conn: Any) -> Any:
        self._hang_up_at[conn] = time.monotonic() + min(HEAD_WITHIN_S, self._request_within_s)
        try:
            return super().handle(conn)
        finally:
            del self._hang_up_at[conn]

    def handle_request(self, req: Any, conn: Any) -> Any:
        """The head of the request is here; its body is read from within, and then it is answered."""
        self._hang_up_at[conn] = time.monotonic() + self._request_within_s
        return super().handle_request(req, conn)

    def notify(self) -> None:
        """gunicorn's own sign of life, about once a second, from the thread that waits for no client."""
        super().notify()
        now = time.monotonic()
        for conn, until in list(self._hang_up_at.items()):
            if until < now:
                with suppress(OSError):  # it has just ended by itself
                    conn.sock.shutdown(socket.SHUT_RDWR)

    def finish_request(self, conn: Any, fs: Any) -> None:
        if conn.sock.fileno() < 0:
            self.nr_conns -= 1
        else:
            super().finish_request(conn, fs)


class PropagatingLogger(Logger):
    """Leaves gunicorn's lines to the one log format of all services."""

    def setup(self, cfg: Any) -> None:
        super().setup(cfg)
        self.error_log.handlers.clear()
        self.error_log.propagate = True
