"""A webhook as somebody else would run it: a local HTTP server that takes what apprise posts, or refuses it, or is away."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

from tests.conftest import free_port

SECRET = "geheim-4711"  # noqa: S105 - it guards nothing


class Receiver:
    """What was posted, as JSON; `status` is what is answered."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.status = 200
        self.received: list[dict[str, Any]] = []

    @property
    def address(self) -> str:
        """For alerts.channels, with secrets in each place that may have some."""
        return f"json://me:{SECRET}@127.0.0.1:{self.port}/{SECRET}?-key={SECRET}"

    @property
    def titles(self) -> list[str]:
        return [one["title"] for one in self.received]


@contextmanager
def receiver(port: int | None = None) -> Iterator[Receiver]:
    taken = Receiver(port or free_port())

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if taken.status == 200:
                taken.received.append(body)
            answer = f"no: {self.path}".encode()  # a careless one repeats the secret
            self.send_response(taken.status)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", taken.port), Handler)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield taken
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)
