"""A Redis that speaks TLS and asks clients for a certificate, with certificates made by openssl for the occasion.

Where the redis-server at hand was built with TLS it does so itself; the wheel's was not, so there TLS ends at a small proxy
before it: the same handshake and the same checks for whoever connects.
"""

from __future__ import annotations

import select
import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from socketserver import BaseRequestHandler, ThreadingTCPServer
from typing import Literal

from redis import Redis
from redis.exceptions import RedisError

from services.local_redis import redis_server_binary
from tests.conftest import free_port, redis_server, skip_or_fail
from tests.processes import eventually

PASSWORD = "not-a-secret"  # noqa: S105 - of a Redis that lives for one test
Where = Literal["redis-server", "proxy"]


@dataclass(frozen=True)
class Certificates:
    """PEM files. Both CAs have the same name; only the first has signed Redis' certificate and the client's."""

    ca: Path
    other_ca: Path
    server: Path
    server_key: Path
    client: Path
    client_key: Path


def make_certificates(folder: Path) -> Certificates:
    """A CA, a certificate for 127.0.0.1 and one for a client, and another CA that has signed neither."""
    if shutil.which("openssl") is None:
        skip_or_fail("openssl", "openssl, which makes the certificates of this test, is not on the PATH")
    for name in ("ca", "other-ca"):
        _openssl(folder, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=Kronos test CA",
                 "-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=critical,keyCertSign",
                 "-keyout", f"{name}.key", "-out", f"{name}.pem")  # fmt: skip
    for name, extension in (("server", "subjectAltName=IP:127.0.0.1"), ("client", "extendedKeyUsage=clientAuth")):
        _openssl(folder, "req", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={name}", "-addext", extension,
                 "-keyout", f"{name}.key", "-out", f"{name}.csr")  # fmt: skip
        _openssl(folder, "x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial",
                 "-days", "2", "-copy_extensions", "copy", "-out", f"{name}.pem")  # fmt: skip
    names = ("ca.pem", "other-ca.pem", "server.pem", "server.key", "client.pem", "client.key")
    return Certificates(*(folder / name for name in names))


@contextmanager
def tls_redis(where: Where, made: Certificates, folder: Path) -> Iterator[int]:
    """Its port on 127.0.0.1. Both kinds ask for PASSWORD and for a certificate that the CA has signed."""
    if where == "redis-server":
        with _redis_server(made, folder) as port:
            yield port
    else:
        with redis_server(folder, "--requirepass", PASSWORD) as behind, _proxy(made, behind) as port:
            yield port


@contextmanager
def _redis_server(made: Certificates, folder: Path) -> Iterator[int]:
    port = free_port()
    binary = shutil.which("redis-tls-server") or redis_server_binary()  # .ci/run brings the first
    command = [str(binary), "--port", "0", "--tls-port", str(port), "--bind", "127.0.0.1", "--save", "",
               "--dir", str(folder), "--requirepass", PASSWORD, "--tls-ca-cert-file", str(made.ca),
               "--tls-cert-file", str(made.server), "--tls-key-file", str(made.server_key)]  # fmt: skip
    with (folder / "redis.log").open("wb") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log)
    client = Redis(host="127.0.0.1", port=port, password=PASSWORD, ssl=True, ssl_ca_certs=str(made.ca),
                   ssl_certfile=str(made.client), ssl_keyfile=str(made.client_key))  # fmt: skip
    try:
        eventually(lambda: server.poll() is not None or _answers(client), 20)
        if server.poll() is not None:
            skip_or_fail("redis-tls", "the redis-server here was built without TLS (the proxy's tests cover it)")
        yield port
    finally:
        client.close()
        server.terminate()
        server.wait(timeout=60)


def _answers(client: Redis) -> bool:
    with suppress(RedisError):
        return bool(client.ping())
    return False


@contextmanager
def _proxy(made: Certificates, behind: int) -> Iterator[int]:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(made.ca))
    context.load_cert_chain(made.server, made.server_key)
    context.verify_mode = ssl.CERT_REQUIRED

    class Client(BaseRequestHandler):
        def handle(self) -> None:
            with (
                suppress(OSError),
                context.wrap_socket(self.request, server_side=True) as client,
                socket.create_connection(("127.0.0.1", behind)) as redis,
            ):
                _both_ways(client, redis)

    class Server(ThreadingTCPServer):
        daemon_threads = True

    with Server(("127.0.0.1", 0), Client) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


def _both_ways(client: ssl.SSLSocket, redis: socket.socket) -> None:
    """Until either of them closes."""
    while True:
        ready = [client] if client.pending() else select.select([client, redis], [], [])[0]
        for one, other in ((client, redis), (redis, client)):
            if one in ready:
                some = one.recv(1 << 16)
                if not some:
                    return
                other.sendall(some)


def _openssl(folder: Path, *arguments: str) -> None:
    subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)
