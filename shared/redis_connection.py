"""The one way to Redis: a client that retries short outages, and Redis' errors in our own words.

kronos:probe    empty, for a second: that something could be written
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from redis import Redis
from redis.backoff import ExponentialBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.retry import Retry

from shared.errors import SettingsError, StoreUnavailableError
from shared.logs import get_logger
from shared.redis_tls import tls_options, why_no_tls
from shared.settings import RedisSettings

log = get_logger(__name__)

CONNECT_TIMEOUT_S = 3
RETRIES = 3
PROBE, PROBE_KEPT_MS = "kronos:probe", 1000


def connect(settings: RedisSettings, *, answer_timeout_s: float | None = None) -> Redis:
    """A client for `redis.url`, not yet connected; each command is tried again over about a second of outage.

    A command's answer is waited for without limit unless one is given (RQ's workers wait in Redis for their next job);
    what has not answered within a given limit is not asked again. Raises SettingsError where the address cannot be used or
    a file that is named not be read.
    """
    url, password, tls = (
        settings.url.get_secret_value(),
        _password_from_file(settings.password_file),
        tls_options(settings),
    )
    tried_again = [RedisConnectionError] if answer_timeout_s else [RedisConnectionError, RedisTimeoutError]
    try:
        return Redis.from_url(
            url,
            password=password,  # one that stands in the address goes before it
            socket_connect_timeout=CONNECT_TIMEOUT_S,
            socket_timeout=answer_timeout_s,
            health_check_interval=30,
            retry=Retry(ExponentialBackoff(cap=1, base=0.1), RETRIES, supported_errors=tuple(tried_again)),
            retry_on_error=tried_again,
            **tls,
        )
    except ValueError as error:
        raise SettingsError(
            f"redis.url (KRONOS_REDIS__URL) is {without_password(url)!r}, which is not usable: {error}."
        ) from None


def _password_from_file(name: str) -> str | None:
    if not name:
        return None
    knob = f"redis.password_file (KRONOS_REDIS__PASSWORD_FILE) is {name!r}"
    try:
        password = Path(name).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "it is not text"
        raise SettingsError(
            f"{knob}, which cannot be read ({why}): name a file that holds the password alone."
        ) from None
    if not password:
        raise SettingsError(f"{knob}, which is empty: write the password into it.")
    return password


def wait_until_ready(redis: Redis, *, first_pause_s: float = 0.2, longest_pause_s: float = 5) -> None:
    """Return once Redis answers and takes something down; a service that is started before its Redis waits here and says so.

    One whose memory is full, or that is a replica, answers and is of no use all the same.
    """
    pause = first_pause_s
    while True:
        try:
            check_writable(redis)
            return
        except StoreUnavailableError as error:
            log.warning("waiting_for_redis", reason=str(error), again_in_s=round(pause, 1))
            time.sleep(pause)
            pause = min(2 * pause, longest_pause_s)


def without_password(url: str) -> str:
    """A Redis address fit for a log or a message: nothing of it but scheme, host and path."""
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        return "an address that cannot be read"
    return urlunsplit((parts.scheme, host + port, parts.path, "", ""))


@contextmanager
def redis_errors_translated() -> Iterator[None]:
    """Turns whatever redis-py raises into StoreUnavailableError; it also serves as a decorator."""
    try:
        yield
    except RedisError as error:
        why = why_no_tls(error) or (
            f"Redis cannot be used at the moment ({error}): check that it runs and that redis.url (KRONOS_REDIS__URL) is right."
        )
        raise StoreUnavailableError(why) from error


@redis_errors_translated()
def check_writable(redis: Redis) -> None:
    """Raises StoreUnavailableError, with Redis' own reason, unless something can be written."""
    redis.set(PROBE, b"", px=PROBE_KEPT_MS)
