"""A small Hugging Face hub over real HTTP: HEAD and GET of /OWNER/REPO/resolve/REVISION/FILE, from folders on disk."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

COMMIT = "c0ffee" + "0" * 34


@dataclass
class HubServer:
    """Serves `folder`/REPO/FILE; `status` other than 200 is what it answers to everything."""

    folder: Path
    url: str = ""
    status: int = 200
    requests: list[str] = field(default_factory=list)


@contextmanager
def running_hub(folder: Path) -> Iterator[HubServer]:
    hub = HubServer(folder)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self._answer(with_body=False)

        def do_GET(self) -> None:
            self._answer(with_body=True)

        def log_message(self, *_: object) -> None:
            """Keep the tests' output quiet."""

        def _answer(self, *, with_body: bool) -> None:
            hub.requests.append(f"{self.command} {self.path}")
            _owner, repo, _resolve, revision, name = self.path.lstrip("/").split("/")
            file = hub.folder / repo / name
            found = hub.status == 200 and file.exists()
            body = file.read_bytes() if found else b""
            self.send_response(200 if found else 404 if hub.status == 200 else hub.status)
            self.send_header("X-Repo-Commit", COMMIT if revision == "main" else revision)
            self.send_header("ETag", f'"{hashlib.sha256(body).hexdigest()}"')
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if with_body:
                self.wfile.write(body)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
