"""Whether the clocks agree: this machine's, that of Redis, and the venue's as ingest last heard it."""

from __future__ import annotations

from http.client import HTTPConnection, HTTPException

from prometheus_client.parser import text_string_to_metric_families
from redis import Redis

from services.cli.diagnosis.finding import Finding, ok, warning, wrong
from shared.redis_connection import redis_errors_translated
from shared.settings import MetricsSettings

LITTLE_S, MUCH_S = 2.0, 60.0
ANSWERS_WITHIN_S = 2.0
OFFSET = "kronos_clock_offset_seconds"  # services/ingest/metrics.py, which is in no other image
EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - asked, not listened on


@redis_errors_translated()
def examine_redis_clock(redis: Redis, now_ms: int) -> Finding:
    """`now_ms` is this machine's clock, in UTC ms. Raises StoreUnavailableError."""
    seconds, micros = redis.time()
    return _judged("clock of redis", "Redis' clock", seconds + micros / 1e6 - now_ms / 1000)


def examine_venue_clock(settings: MetricsSettings) -> Finding:
    """By what an ingest of this machine tells at its port of metrics, since only an ingest has heard a venue's time."""
    check, host = "clock of the venue", EVERYWHERE.get(settings.host, settings.host)
    address = f"http://{f'[{host}]' if ':' in host else host}:{settings.ingest_port}/metrics"
    if not settings.enabled or not settings.ingest_port:
        return ok(
            check, "It is not known from here, since no ingest tells metrics at a port that is known (metrics.*)."
        )
    try:
        ahead_s = _offset(_read(host, settings.ingest_port))
    except (OSError, ValueError, HTTPException):
        return ok(check, f"It is not known from here: no ingest tells of it at {address}.")
    if ahead_s is None:
        return ok(check, f"It is not known: the ingest at {address} has heard no venue yet.")
    return _judged(check, "The venue's clock", ahead_s)


def _read(host: str, port: int) -> str:
    """Raises OSError, HTTPException or ValueError."""
    asked = HTTPConnection(host, port, timeout=ANSWERS_WITHIN_S)
    try:
        asked.request("GET", "/metrics")
        return asked.getresponse().read().decode()
    finally:
        asked.close()


def _offset(exposition: str) -> float | None:
    """None where no venue was heard yet: an unset gauge is 0. Raises ValueError where it is no exposition."""
    values = [
        sample.value
        for family in text_string_to_metric_families(exposition)
        for sample in family.samples
        if sample.name == OFFSET
    ]
    return next((value for value in values if value), None)


def _judged(check: str, whose: str, ahead_s: float) -> Finding:
    if abs(ahead_s) <= LITTLE_S:
        return ok(check, f"{whose} and this machine's are {abs(ahead_s):.1f} s apart.")
    finding = wrong if abs(ahead_s) > MUCH_S else warning
    return finding(
        check,
        f"{whose} is {abs(ahead_s):.0f} s {'ahead of' if ahead_s > 0 else 'behind'} this machine's.",
        "Set this machine's clock, and that of Redis, by NTP: ages are judged by them.",
    )
