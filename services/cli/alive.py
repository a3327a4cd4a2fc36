"""`kronos-live alive`: whether what runs on this host still does its work, for healthchecks."""

from __future__ import annotations

import socket

import click

from services.cli.common import errors_in_one_line, now_ms, stores
from shared.alert_store import AlertStore, Watcher
from shared.errors import KronosLiveError
from shared.queue_overview import SILENT_AFTER_S, WorkerStatus
from shared.redis_connection import connect
from shared.settings import load_settings


@click.command()
@errors_in_one_line
def alive() -> None:
    """Say whether a worker, an ingest or a watcher of alerts of this host (a container is a host of its own) gave a sign of life
    lately.

    Ends with 1 where none did within a minute, and with 5 where Redis, which knows of it, does not answer.
    """
    settings, now, host = load_settings(), now_ms(), socket.gethostname()
    queue, watchers = stores(settings)[2], AlertStore(connect(settings.redis)).watchers()
    registered: list[WorkerStatus | Watcher] = [
        *queue.worker_statuses(now),
        *queue.fetches.ingest_statuses(now),
        *watchers,
    ]
    here = sorted((one for one in registered if one.host == host), key=lambda one: one.heartbeat_age_s)
    if not here:
        raise KronosLiveError(
            f"No worker, ingest or watcher of alerts of this host ({host}) has told Redis of itself; look at its log."
        )
    last = here[0]  # what was killed before it, on a host that was started again, is silent
    if last.silent:
        raise KronosLiveError(
            f"{last.name} of this host last gave a sign of life {last.heartbeat_age_s:.0f} s ago, over {SILENT_AFTER_S:.0f} s: "
            f"look at its log, and start it again."
        )
    click.echo(f"{last.name} gave a sign of life {last.heartbeat_age_s:.0f} s ago.")
