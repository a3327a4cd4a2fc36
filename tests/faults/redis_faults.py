"""What can happen to a Redis that a stack runs on: each fault is put on, and lifted again."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

from redis import Redis
from redis.exceptions import RedisError

from services.local_redis import redis_server_binary
from tests.faults.redis_proxy import RedisProxy
from tests.processes import eventually

TOO_SLOW_S = 7.0  # longer than any service waits for an answer that should take no time
OTHER_PASSWORD = "changed-by-somebody"  # noqa: S105 - of a Redis that lives for one test


class FaultyRedis:
    """A Redis with append-only files on a port of its own. Services reach it through `proxy`; `client` does directly."""

    def __init__(self, port: int, folder: Path) -> None:
        self.port, self.folder = port, folder
        self.server: subprocess.Popen[bytes] = start_redis(port, folder)
        self.client = Redis(port=port)
        self.proxy = RedisProxy(port)

    def fill(self) -> Callable[[], object]:
        self.client.config_set("maxmemory-policy", "noeviction")
        self.client.config_set("maxmemory", 1)
        return lambda: self.client.config_set("maxmemory", 0)

    def become_a_replica(self) -> Callable[[], object]:
        self.client.replicaof("127.0.0.1", 1)  # of nobody
        return lambda: self.client.replicaof("NO", "ONE")

    def change_the_password(self) -> Callable[[], object]:
        self.client.config_set("requirepass", OTHER_PASSWORD)
        known = Redis(port=self.port, password=OTHER_PASSWORD)
        known.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        return lambda: known.config_set("requirepass", "")

    def stop(self) -> Callable[[], object]:
        self.server.send_signal(signal.SIGSTOP)
        return lambda: self.server.send_signal(signal.SIGCONT)

    def answer_too_slowly(self) -> Callable[[], object]:
        """What it was told it does all the same, and nobody hears of it in time."""
        return self.slow_down(TOO_SLOW_S)

    def slow_down(self, seconds: float) -> Callable[[], object]:
        self.proxy.delay_s = seconds
        return lambda: setattr(self.proxy, "delay_s", 0.0)

    def pause_writes(self) -> Callable[[], object]:
        """As Redis does it itself for a fail-over."""
        self.client.execute_command("CLIENT", "PAUSE", 600_000, "WRITE")
        return lambda: self.client.execute_command("CLIENT", "UNPAUSE")

    def die(self) -> Callable[[], object]:
        self.server.kill()
        self.server.wait(timeout=60)
        return self._start

    def lose_everything(self) -> Callable[[], object]:
        self.client.flushall()
        return self.die()

    def _start(self) -> None:
        self.server = start_redis(self.port, self.folder)

    def end(self) -> None:
        self.server.send_signal(signal.SIGCONT)
        self.server.kill()
        self.server.wait(timeout=60)
        self.proxy.end()


def start_redis(port: int, folder: Path) -> subprocess.Popen[bytes]:
    command = [str(redis_server_binary()), "--port", str(port), "--bind", "127.0.0.1", "--appendonly", "yes"]
    server = subprocess.Popen([*command, "--dir", str(folder)], stdout=subprocess.DEVNULL)
    client = Redis(port=port)

    def answers() -> bool:
        try:
            return bool(client.ping())
        except RedisError:
            return False

    eventually(answers, 20)
    return server
