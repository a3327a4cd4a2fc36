"""Streams of server-sent events, all of them in one thread: none takes a thread that serves requests.

A request that asks for a stream is answered by handing its socket over to this room (`StreamResponse`), so five hundred
open streams are five hundred sockets in one selector. That thread alone looks at what has changed, once a second for all
who wait for the same thing, and not at all while nobody waits. Knows sockets and the format of events; what there is to
tell it is told by `look`.
"""

from __future__ import annotations

import json
import selectors
import socket
import threading
import time
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from flask import Response

from shared.logs import get_logger

LOOK_EVERY_S = 1.0
HEARTBEAT_S = 15.0  # a comment, so that neither side nor a proxy between takes silence for an end
RECONNECT_MS = 3000
MOST_UNSENT = 64 * 1024  # bytes; whoever takes so little in is let go, and hears the newest when it comes back

Topic = Hashable

log = get_logger(__name__)


@dataclass(frozen=True)
class News:
    """The newest of a topic. It is sent when it differs from what a stream has heard; `last` ends the stream."""

    event: str
    last: bool = False


def event(name: str, data: Mapping[str, Any] | str) -> str:
    """One event; `data` is JSON, as text or to be made so."""
    return f"event: {name}\ndata: {data if isinstance(data, str) else json.dumps(data)}\n\n"


@dataclass(eq=False)
class _Stream:
    """One client: what it waits for, what it has heard, and the bytes that its socket has not taken yet."""

    sock: socket.socket
    topic: Topic
    unsent: bytearray
    heard: News | None = None
    spoke_at: float = field(default_factory=time.monotonic)
    ending: bool = False


class Streams:
    """All open streams of this process. `look` gives the news of topics and is called by one thread only."""

    def __init__(self, look: Callable[[Iterable[Topic]], Mapping[Topic, News]], most: int) -> None:
        self._look = look
        self.most = most
        self._streams: set[_Stream] = set()
        self._arrivals: list[_Stream] = []
        self._known: dict[Topic, News] = {}
        self._next_look_at = 0.0
        self._lock = threading.Lock()  # of the arrivals, and of the start
        self._wake: socket.socket | None = None

    def __len__(self) -> int:
        return len(self._streams) + len(self._arrivals)

    @property
    def full(self) -> bool:
        return len(self) >= self.most

    def take(self, sock: socket.socket, head: bytes, topic: Topic) -> None:
        """Make a connected socket a stream: `head` is the HTTP head of its answer. The thread starts with the first,
        since a process that forks afterwards (as gunicorn does) would not take it along.
        """
        sock.setblocking(False)
        with self._lock:
            self._arrivals.append(_Stream(sock, topic, bytearray(head + f"retry: {RECONNECT_MS}\n\n".encode())))
            if self._wake is None:
                self._wake, woken = socket.socketpair()
                woken.setblocking(False)
                threading.Thread(target=self._run, args=(woken,), name="streams", daemon=True).start()
        self._wake.send(b".")

    def _run(self, woken: socket.socket) -> None:
        """For ever; the thread ends with its process, and so do the sockets."""
        with selectors.DefaultSelector() as selector:
            selector.register(woken, selectors.EVENT_READ)
            while True:
                for key, ready in selector.select(self._patience()):
                    if key.data is None:
                        woken.recv(4096)
                    else:
                        self._serve(selector, key.data, ready)
                self._welcome(selector)
                if time.monotonic() >= self._next_look_at:
                    self._look_at({stream.topic for stream in self._streams})
                    self._next_look_at = time.monotonic() + LOOK_EVERY_S
                self._tell_all(selector)

    def _patience(self) -> float | None:
        """How long there is nothing to do unless a socket says so; without streams, until one comes."""
        return max(0.0, self._next_look_at - time.monotonic()) if self._streams else None

    def _welcome(self, selector: selectors.BaseSelector) -> None:
        with self._lock:
            arrived, self._arrivals = self._arrivals, []
            self._streams.update(arrived)
        for stream in arrived:
            selector.register(stream.sock, selectors.EVENT_READ, stream)
        if unknown := {stream.topic for stream in arrived} - self._known.keys():
            self._look_at(unknown)

    def _look_at(self, topics: set[Topic]) -> None:
        """Whatever goes wrong in looking, the streams live on and hear of the next look that succeeds."""
        try:
            self._known.update(self._look(topics))
        except Exception as error:
            log.error("streams_could_not_look", exc_info=error)

    def _tell_all(self, selector: selectors.BaseSelector) -> None:
        now = time.monotonic()
        for stream in list(self._streams):
            news = self._known.get(stream.topic)
            if news is not None and news != stream.heard and not stream.ending:
                stream.heard, stream.ending = news, news.last
                stream.unsent += news.event.encode()
            elif now - stream.spoke_at >= HEARTBEAT_S and not stream.unsent:
                stream.unsent += b": still here\n\n"
            if stream.unsent:
                self._send(selector, stream)
        for topic in self._known.keys() - {stream.topic for stream in self._streams}:
            del self._known[topic]

    def _serve(self, selector: selectors.BaseSelector, stream: _Stream, ready: int) -> None:
        if ready & selectors.EVENT_READ and _has_gone(stream.sock):
            self._forget(selector, stream)
        elif ready & selectors.EVENT_WRITE:
            self._send(selector, stream)

    def _send(self, selector: selectors.BaseSelector, stream: _Stream) -> None:
        try:
            sent = stream.sock.send(stream.unsent)
        except BlockingIOError:
            sent = 0
        except OSError:
            self._forget(selector, stream)
            return
        del stream.unsent[:sent]
        if sent:
            stream.spoke_at = time.monotonic()
        if len(stream.unsent) > MOST_UNSENT or (stream.ending and not stream.unsent):
            self._forget(selector, stream)
            return
        waits_for = selectors.EVENT_READ | (selectors.EVENT_WRITE if stream.unsent else 0)
        selector.modify(stream.sock, waits_for, stream)

    def _forget(self, selector: selectors.BaseSelector, stream: _Stream) -> None:
        self._streams.discard(stream)
        selector.unregister(stream.sock)
        stream.sock.close()


def _has_gone(sock: socket.socket) -> bool:
    """Whether the other side has closed; what it sends instead is of no interest."""
    try:
        return not sock.recv(4096)
    except BlockingIOError:
        return False
    except OSError:
        return True


class StreamResponse(Response):
    """An answer that never ends by itself: its socket is handed over to `streams`, and its thread is free again.

    gunicorn is told by StopIteration that the connection is no longer its own (it gives an application the socket for
    that very purpose); services/web/main.py sees to it that it leaves a socket alone that is gone.
    """

    def __init__(self, streams: Streams, topic: Topic) -> None:
        super().__init__(mimetype="text/event-stream", headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        self._streams = streams
        self._topic = topic

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        if environ["REQUEST_METHOD"] == "HEAD":
            return super().__call__(environ, start_response)
        sock = environ["gunicorn.socket"]
        taken = socket.socket(sock.family, sock.type, sock.proto, fileno=sock.detach())
        self._streams.take(taken, self._head(), self._topic)
        raise StopIteration

    def _head(self) -> bytes:
        kept = [f"{name}: {value}" for name, value in self.headers if name.lower() != "content-length"]
        return "\r\n".join([f"HTTP/1.1 {self.status}", *kept, "Connection: close", "", ""]).encode("latin-1")
