"""Redis: whether it answers and takes writes, who may reach it, and whether it keeps what it is given."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from redis import Redis
from redis.exceptions import AuthenticationError, RedisError

from services.cli.diagnosis.finding import Finding, ok, warning, wrong
from shared.publishing import is_loopback
from shared.redis_connection import without_password
from shared.settings import RedisSettings

PROBE, PROBE_KEPT_S = "kronos:doctor", 60
OLDEST = (6, 2)  # RQ moves jobs by LMOVE
NEARLY_FULL = 0.9  # of maxmemory


def examine_redis(redis: Redis, settings: RedisSettings) -> Iterator[Finding]:
    """The first finding, named redis, is wrong where nothing more can be learned; then it is the only one."""
    where = without_password(settings.url.get_secret_value())
    try:
        told = redis.info()
    except AuthenticationError as error:
        yield wrong(
            "redis",
            f"Redis at {where} answers, but refuses us ({error}).",
            "Put its password into redis.url (KRONOS_REDIS__URL), or into a file that redis.password_file names.",
        )
        return
    except RedisError as error:
        yield wrong(
            "redis",
            f"Redis at {where} does not answer ({error}).",
            "Start it, or let redis.url (KRONOS_REDIS__URL) name where it is; all services go on by themselves then.",
        )
        return
    yield _version(str(told.get("redis_version", "0")), where)
    yield _writes(redis)
    yield _memory(told)
    yield _persistence(told)
    yield _password(settings, where)


def _version(told: str, where: str) -> Finding:
    number = tuple(int(part) for part in told.split(".")[:2] if part.isdecimal())
    if number < OLDEST:
        return wrong("redis", f"Redis {told} answers at {where}, but 6.2 or newer is needed.", "Install a newer one.")
    return ok("redis", f"Redis {told} answers at {where}.")


def _writes(redis: Redis) -> Finding:
    """By writing: there are more reasons to refuse that (a replica, no memory, no disk, no right) than one could ask for."""
    try:
        redis.set(PROBE, "written by kronos-live doctor", ex=PROBE_KEPT_S)
    except RedisError as error:
        return wrong(
            "redis writes",
            f"Redis answers, but takes no write ({error}).",
            "Let redis.url name the primary one where this is a replica; else give it memory (maxmemory) or disk, as it says.",
        )
    return ok("redis writes", "Redis takes writes.")


def _memory(told: dict[str, Any]) -> Finding:
    policy, most, used = told.get("maxmemory_policy"), int(told.get("maxmemory", 0)), int(told.get("used_memory", 0))
    size = f"{used / 2**20:.0f} MiB" + (f" of {most / 2**20:.0f}" if most else ", with no limit set,")
    if policy != "noeviction":
        finding = wrong if most else warning
        return finding(
            "redis memory",
            f"Redis uses {size} and throws away what it likes once it is full (maxmemory-policy {policy}).",
            "Set maxmemory-policy to noeviction, else forecasts and jobs vanish without a word.",
        )
    if most and used > NEARLY_FULL * most:
        return wrong(
            "redis memory",
            f"Redis uses {size}, and takes nothing more once that is full.",
            "Raise maxmemory, or lower retention.forecasts_per_series and retention.snapshots_per_series.",
        )
    return ok("redis memory", f"Redis uses {size} and throws nothing away (maxmemory-policy noeviction).")


def _persistence(told: dict[str, Any]) -> Finding:
    check = "redis persistence"
    if told.get("aof_enabled"):
        if told.get("aof_last_write_status") != "ok" or told.get("aof_last_bgrewrite_status") != "ok":
            return wrong(check, "Redis could not write its append-only file.", "Look at its disk and at its log.")
        return ok(check, "Redis keeps what it is given in an append-only file.")
    if told.get("rdb_last_bgsave_status") != "ok":
        return wrong(check, "The last snapshot that Redis made of itself failed.", "Look at its disk and at its log.")
    return warning(
        check,
        "Redis keeps no append-only file, so that a restart of it loses forecasts and jobs.",
        "Start it with --appendonly yes, as docker-compose.yml and the demo do.",
    )


def _password(settings: RedisSettings, where: str) -> Finding:
    check, parts = "redis password", urlsplit(settings.url.get_secret_value())
    if parts.password or settings.password_file:
        return ok(check, "Redis is asked with a password.")
    if parts.scheme == "unix" or is_loopback(parts.hostname or ""):
        return ok(check, f"No password is needed for {where}: only this machine reaches it there.")
    return warning(
        check,
        f"Redis at {where} takes commands from whoever reaches it.",
        "Give it a password (requirepass), and put that into redis.url (KRONOS_REDIS__URL) or redis.password_file.",
    )
