"""A network between services and their Redis: on loopback, and slow or broken when a test says so."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import suppress

CHUNK = 1 << 16


class RedisProxy:
    """Listens on a port of loopback, from its making to `end`, and hands everything on to the Redis at another.

    `delay_s` is what each answer takes longer; `cut` breaks all connections there are.
    """

    def __init__(self, redis_port: int) -> None:
        self.delay_s = 0.0
        self._redis = ("127.0.0.1", redis_port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        threading.Thread(target=self._serve, daemon=True).start()

    def cut(self) -> None:
        """Both ends of every connection hear that it is gone."""
        with self._lock:
            ends = list(self._open)
        for end in ends:
            _shut(end)

    def end(self) -> None:
        _shut(self._listener)
        self._listener.close()
        self.cut()

    def _serve(self) -> None:
        with suppress(OSError):  # the listener was shut
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._join, args=(client,), daemon=True).start()

    def _join(self, client: socket.socket) -> None:
        try:
            redis = socket.create_connection(self._redis, timeout=5)
        except OSError:  # there is no Redis at the moment, and whoever asks sees their connection break
            client.close()
            return
        redis.settimeout(None)
        ends = {client, redis}
        with self._lock:
            self._open |= ends
        answers = threading.Thread(target=self._pump, args=(redis, client), kwargs={"slow": True}, daemon=True)
        answers.start()
        self._pump(client, redis, slow=False)
        answers.join()
        with self._lock:
            self._open -= ends
        for end in ends:
            end.close()

    def _pump(self, source: socket.socket, sink: socket.socket, *, slow: bool) -> None:
        with suppress(OSError):
            while chunk := source.recv(CHUNK):
                if slow and self.delay_s:
                    time.sleep(self.delay_s)
                sink.sendall(chunk)
        _shut(source)
        _shut(sink)


def _shut(end: socket.socket) -> None:
    with suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
