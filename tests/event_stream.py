"""A client of server-sent events that reads a stream as it comes."""

from __future__ import annotations

import json
import socket
import time
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit


@dataclass
class Event:
    name: str
    data: Any


class EventStream:
    """An open stream; `blocks` are its parts as they came, heartbeats and `retry` among them."""

    def __init__(self, address: str, path: str) -> None:
        place = urlsplit(address)
        self.sock = socket.create_connection((str(place.hostname), int(place.port or 80)), timeout=30)
        self.sock.sendall(f"GET {path} HTTP/1.1\r\nHost: {place.netloc}\r\n\r\n".encode())
        self._unread = b""
        self.head = self._until(b"\r\n\r\n", 30).decode("latin-1")

    def __enter__(self) -> EventStream:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()

    def block(self, seconds: float = 30) -> str:
        return self._until(b"\n\n", seconds).decode()

    def event(self, seconds: float = 30) -> Event:
        """The next event; what is no event is passed over."""
        while True:
            lines = dict(line.split(": ", 1) for line in self.block(seconds).splitlines() if not line.startswith(":"))
            if "event" in lines:
                return Event(lines["event"], json.loads(lines["data"]))

    def is_over(self, seconds: float = 30) -> bool:
        """Whether the other side closes the stream without another word."""
        self.sock.settimeout(seconds)
        try:
            return self._unread == b"" and self.sock.recv(1) == b""
        except ConnectionResetError:
            return True

    def _until(self, mark: bytes, seconds: float) -> bytes:
        deadline = time.monotonic() + seconds
        while mark not in self._unread:
            self.sock.settimeout(max(0.01, deadline - time.monotonic()))
            received = self.sock.recv(65536)
            if not received:
                raise EOFError(f"the stream ended; unread are {self._unread!r}")
            self._unread += received
        found, self._unread = self._unread.split(mark, 1)
        return found
