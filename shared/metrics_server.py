"""/metrics for a service that has no web server of its own: one small HTTP server in a thread.

It listens on the first free one of a few ports, so that several workers of one machine do not collide. A service whose
metrics cannot be had does its work all the same, and says so once. Knows no metric.
"""

from __future__ import annotations

from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socket import AF_INET6
from threading import Thread
from typing import Literal

from shared.logs import get_logger
from shared.metrics import CONTENT_TYPE
from shared.settings import MetricsSettings

PORTS_TRIED = 32
PATIENCE_S = 5.0  # with a client that connects and asks nothing

Service = Literal["ingest", "worker", "publish", "alerts"]

log = get_logger(__name__)


def serve_metrics(settings: MetricsSettings, service: Service, exposition: Callable[[], bytes]) -> None:
    """Answer /metrics on `metrics.host` until the process ends, on the first free port from the service's own on
    (`metrics.<service>_port`), or on any free one where that is 0. The address is logged.
    """
    if not settings.enabled:
        return
    first_port: int = getattr(settings, f"{service}_port")
    try:
        server = _listen(settings.host, first_port, _handler(exposition))
    except OSError as error:
        log.warning(
            "metrics_not_served",
            reason=f"No port from {first_port} to {_last(first_port)} on {settings.host} can be used ({error.strerror}): free "
            f"one, or choose others with metrics.host and metrics.{service}_port. All else goes on.",
        )
        return
    Thread(target=server.serve_forever, daemon=True).start()
    host, port = str(server.server_address[0]), server.server_address[1]
    log.info("metrics_served", address=f"http://{f'[{host}]' if ':' in host else host}:{port}/metrics")


def _last(first_port: int) -> int:
    return min(first_port + PORTS_TRIED - 1, 65_535) if first_port else 0


def _listen(host: str, first_port: int, handler: type[BaseHTTPRequestHandler]) -> ThreadingHTTPServer:
    """Raises the OSError of the last port that was tried."""
    kind = _Server6 if ":" in host else _Server
    last = _last(first_port)
    for port in range(first_port, last):
        try:
            return kind((host, port), handler)
        except OSError:
            continue
    return kind((host, last), handler)


class _Server(ThreadingHTTPServer):
    daemon_threads = True


class _Server6(_Server):
    address_family = AF_INET6


def _handler(exposition: Callable[[], bytes]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = PATIENCE_S
        server_version, sys_version = "kronos-live", ""

        def do_GET(self) -> None:
            if self.path.partition("?")[0] != "/metrics":
                self.send_error(404, "There is only /metrics here")
                return
            told = exposition()
            self.send_response(200)
            self.send_header("Content-Type", CONTENT_TYPE)
            self.send_header("Content-Length", str(len(told)))
            self.send_header("Cache-Control", "no-store")
            self.end_headers()
            self.wfile.write(told)

        def log_message(self, format: str, *args: object) -> None:
            log.debug("metrics_asked", said=format % args)

    return Handler
