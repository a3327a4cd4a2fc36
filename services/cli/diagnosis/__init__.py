"""What `kronos-live doctor` looks at, in the order in which one thing hangs on another. Knows no terminal.

Each room looks at one thing and gives a finding or several; nothing is changed but a key of the doctor's own in Redis.
"""

from __future__ import annotations

from collections.abc import Iterator

from redis import Redis

from services.cli.diagnosis.finding import Finding, wrong
from services.cli.diagnosis.of_access import examine_access
from services.cli.diagnosis.of_alerts import examine_alerts
from services.cli.diagnosis.of_checkpoint import examine_checkpoint, examine_loaded_models
from services.cli.diagnosis.of_clocks import examine_redis_clock, examine_venue_clock
from services.cli.diagnosis.of_redis import examine_redis
from services.cli.diagnosis.of_series import examine_series
from services.cli.diagnosis.of_work import examine_lane, examine_queue, examine_working
from shared.errors import StoreUnavailableError
from shared.forecast_queue import ForecastQueue
from shared.forecast_store import ForecastStore
from shared.kline_store import KlineStore
from shared.redis_connection import connect
from shared.settings import Settings

ANSWERS_WITHIN_S = 3.0


def examine(settings: Settings, now_ms: int) -> Iterator[Finding]:
    """A finding for each thing, as they are made; `now_ms` is this machine's clock, in UTC ms."""
    redis = connect(settings.redis, answer_timeout_s=ANSWERS_WITHIN_S)
    answers = True
    for finding in examine_redis(redis, settings.redis):
        answers = answers and not (finding.check == "redis" and finding.state == "wrong")
        yield finding
    if answers:
        try:
            yield from _house(redis, settings, now_ms)
        except StoreUnavailableError as error:  # it answered a moment ago
            yield wrong("redis", error.message, "Look at Redis and its log, then ask the doctor again.")
    yield examine_access(settings.web)
    yield examine_venue_clock(settings.metrics)
    yield examine_checkpoint(settings.model)


def _house(redis: Redis, settings: Settings, now_ms: int) -> Iterator[Finding]:
    """Who works, what waits and how each configured series stands. Raises StoreUnavailableError."""
    klines = KlineStore(redis, settings.retention.snapshots_per_series)
    forecasts = ForecastStore(redis, settings.retention.forecasts_per_series)
    queue = ForecastQueue(redis, settings.queue)
    workers = queue.worker_statuses(now_ms)
    yield examine_redis_clock(redis, now_ms)
    yield examine_working("ingest", queue.fetches.ingest_statuses(now_ms), "kronos-live ingest")
    for lane in queue.lanes:
        yield examine_lane(lane, workers, settings.queue)
    yield from examine_loaded_models(workers)
    yield from examine_queue(queue, settings, now_ms)
    yield from examine_series(klines, forecasts, settings.data.all_series, now_ms)
    yield from examine_alerts(redis, settings.alerts)
