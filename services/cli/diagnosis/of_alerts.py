"""Whether anybody watches, where people want to be told."""

from __future__ import annotations

from collections.abc import Iterator

from redis import Redis

from services.cli.diagnosis.finding import Finding, ok, warning
from shared.alert_store import AlertStore
from shared.settings import AlertSettings


def examine_alerts(redis: Redis, settings: AlertSettings) -> Iterator[Finding]:
    """Nothing where alerts are off. Raises StoreUnavailableError."""
    if not settings.enabled:
        return
    heard = [one for one in AlertStore(redis).watchers() if not one.silent]
    if heard:
        last_s = min(one.heartbeat_age_s for one in heard)
        yield ok("alerts", f"{len(settings.rules)} rules are watched, last sign of life {last_s:.0f} s ago.")
        return
    yield warning(
        "alerts",
        "alerts.enabled is true, but nobody watches, so nobody is told.",
        "Start `kronos-live alerts run`, and look at its log if it ends again.",
    )
