"""How things stand with the series that rules look at, and with the workers: read from the stores, in one round trip and another
where a ledger has grown. Judges nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from redis import Redis

from shared.drift import Drift
from shared.forecast_queue import ForecastQueue
from shared.forecast_store import ForecastStore
from shared.forecasts import Forecast
from shared.freshness import as_of
from shared.kline_store import KlineStore, SeriesStatus
from shared.ledger import ShownBook
from shared.queue_overview import Workforce
from shared.redis_connection import connect
from shared.series_record import ledger_in_use, series_record
from shared.settings import Lane, Series, Settings

REDIS_ANSWERS_WITHIN_S = 10  # one that hangs is told of in the log and asked again


@dataclass(frozen=True)
class SeriesStanding:
    """One series; its status is that of the moment, and None where nobody ingests it."""

    series: Series
    status: SeriesStatus | None
    latest: Forecast | None  # of the schedule, on klines of the origin that the series has now
    drift: Drift | None  # None where too few forecasts are scored, or nobody asked


@dataclass(frozen=True)
class Standing:
    now_ms: int
    series: Mapping[Series, SeriesStanding]
    workforces: Mapping[Lane, Workforce]  # of each lane that forecasts are led to


class Overlook:
    """Reads the stores. A ledger is gone through anew only when it has grown, since a long one takes seconds."""

    def __init__(self, settings: Settings) -> None:
        self.redis: Redis = connect(settings.redis, answer_timeout_s=REDIS_ANSWERS_WITHIN_S)
        self._klines = KlineStore(self.redis, settings.retention.snapshots_per_series)
        self._forecasts = ForecastStore(self.redis, settings.retention.forecasts_per_series)
        self._queue = ForecastQueue(self.redis, settings.queue)
        self._drifts: dict[tuple[Series, ShownBook], tuple[tuple[int, str], Drift | None]] = {}

    def newest_ids(self, series: Collection[Series]) -> dict[Series, tuple[str, ...]]:
        """What changes for a series when a forecast is stored. Raises StoreUnavailableError."""
        questions = {one: self._forecasts.newest_ids_question(*one) for one in series}
        answers = self._queue.ask(*questions.values())
        return {one: answers[question] for one, question in questions.items()}

    def standing(self, series: Collection[Series], drift_of: Collection[Series], now_ms: int) -> Standing:
        """Of the series, with the coverage drift of those that are wanted, at `now_ms` (UTC ms).

        Raises StoreUnavailableError.
        """
        statuses = self._klines.statuses_question()
        workforces = {lane: self._queue.workforce_question(lane, now_ms) for lane in self._queue.lanes}
        latest = {one: self._forecasts.latest_question(*one) for one in series}
        answers = self._queue.ask(statuses, *workforces.values(), *latest.values())
        known = {Series(one.symbol, one.interval): as_of(one, now_ms) for one in answers[statuses]}
        found = {}
        for one in series:
            status = known.get(one)
            forecast = answers[latest[one]][status.origin] if status and status.origin else None
            drift = self._drift(one, ledger_in_use(status)) if one in drift_of else None
            found[one] = SeriesStanding(one, status, forecast, drift)
        return Standing(now_ms, found, {lane: answers[question] for lane, question in workforces.items()})

    def _drift(self, series: Series, book: ShownBook) -> Drift | None:
        version = self._forecasts.ledger.version(*series, book)
        known = self._drifts.get((series, book))
        if known is None or known[0] != version:
            entries = self._forecasts.ledger.entries(*series, book) if version[0] else []
            record = series_record(*series, book, entries).record
            known = self._drifts[series, book] = version, record.drift if record else None
        return known[1]
