"""One cycle of ingest, from the market to the queue: fetch, clean, save, enqueue a forecast and the scoring of earlier ones.

Tells the story of one candle. When a cycle runs, and what happens after a failed one, is for `turns`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from services.ingest.market import Found, Market
from services.ingest.schedule import due_open_time, next_fetch_time
from services.ingest.venue_clock import VenueClock
from shared.due_forecasts import is_any_due
from shared.errors import KronosLiveError
from shared.forecast_queue import ForecastQueue
from shared.forecast_store import ForecastStore
from shared.forecasts import ForecastOverrides, ForecastRequest, build_request, scheduled_forecast_id, seed_of
from shared.kline_store import KlineStore, SeriesStatus
from shared.klines import IngestedOrigin, KlineWindow, utc
from shared.logs import get_logger
from shared.settings import Settings

log = get_logger(__name__)


@dataclass(frozen=True, eq=False)
class Brought:
    """A window that is stored, and what a person should know about it, if anything. `is_newest`: False where it is made up
    and another ingest has meanwhile had a real one.
    """

    window: KlineWindow
    snapshot_id: str
    problem: str | None
    is_newest: bool


class Cycle:
    """One series, the market's, on its way from the market to the queue, `settle_seconds` after each close."""

    def __init__(
        self,
        settings: Settings,
        *,
        market: Market,
        clock: VenueClock,
        klines: KlineStore,
        forecasts: ForecastStore,
        queue: ForecastQueue,
        settle_seconds: float,
    ) -> None:
        self._settings = settings
        self.series = market.series
        self.settle_seconds = settle_seconds
        self._symbol, self._interval = market.series
        self._market = market
        self._clock = clock
        self._klines = klines
        self._forecasts = forecasts
        self._queue = queue

    def run(self, expected_open_ms: int | None) -> bool:
        """Bring the newest closed candle home and ask for its forecast; False where its klines had to be made up.

        `expected_open_ms`: see Market.find. Raises VenueError or StoreUnavailableError.
        """
        brought = self.bring(expected_open_ms)
        if brought.is_newest:
            self._enqueue(brought.window, brought.snapshot_id)
            self._enqueue_scoring(brought.window)
        return brought.window.origin != "simulated"

    def bring(self, expected_open_ms: int | None) -> Brought:
        """The newest closed candle, stored with the series' state; whoever runs once asks for no more. Raises as `run` does."""
        known = self._klines.status(self._symbol, self._interval)
        found = self._market.find(expected_open_ms, may_simulate=known is None or not known.ever_live)
        snapshot_id = self._klines.save(found.window)
        return Brought(found.window, snapshot_id, found.problem, self._save_status(found, snapshot_id))

    def report_failure(self, error: KronosLiveError, next_fetch_at_ms: int) -> None:
        """Make it known that the candle that is due could not be had, unless another ingest has brought it.

        Raises StoreUnavailableError.
        """
        now_ms = self._clock.now_ms()
        due = due_open_time(self._interval, now_ms - round(self.settle_seconds * 1000))

        def stale(known: SeriesStatus | None) -> SeriesStatus | None:
            if known and known.state == "live" and (known.last_open_time_ms or 0) >= due:
                return None
            return SeriesStatus(
                symbol=self._symbol,
                interval=self._interval,
                state="stale",
                venue=known.venue if known else None,
                origin=known.origin if known else None,
                snapshot_id=known.snapshot_id if known else None,
                last_open_time_ms=known.last_open_time_ms if known else None,
                checked_at_ms=now_ms,
                next_fetch_at_ms=next_fetch_at_ms,
                problem=error.message,
                ever_live=known is not None and known.ever_live,
            )

        if not self._klines.change_status(self._symbol, self._interval, stale):
            log.info("candle_brought_by_another_ingest", candle=utc(due))

    def _save_status(self, found: Found, snapshot_id: str) -> bool:
        """False, and nothing saved, where the klines are made up and another ingest has meanwhile had real ones."""
        now_ms = self._clock.now_ms()

        def fresh(known: SeriesStatus | None) -> SeriesStatus | None:
            ever_live = known is not None and known.ever_live
            if ever_live and found.window.origin == "simulated":
                return None
            return SeriesStatus(
                symbol=self._symbol,
                interval=self._interval,
                state=cast("IngestedOrigin", found.window.origin),  # a market finds no others
                venue=found.window.venue,
                origin=found.window.origin,
                snapshot_id=snapshot_id,
                last_open_time_ms=found.window.last_open_time_ms,
                checked_at_ms=now_ms,
                next_fetch_at_ms=next_fetch_time(self._interval, now_ms, self.settle_seconds),
                problem=found.problem,
                ever_live=ever_live or found.window.origin == "live",
            )

        return self._klines.change_status(self._symbol, self._interval, fresh)

    def _enqueue(self, window: KlineWindow, snapshot_id: str) -> None:
        """Ask for the one forecast that follows this candle, whoever was first to see it."""
        forecast_id = scheduled_forecast_id(self._symbol, self._interval, window.last_open_time_ms, window.origin)
        about = log.bind(forecast=forecast_id, snapshot=snapshot_id, candle=utc(window.last_open_time_ms))
        if self._forecasts.exists(forecast_id):
            about.info("forecast_already_made")
            return
        request = scheduled_request(self._settings, window, snapshot_id)
        if self._queue.enqueue(forecast_id, request):
            about.info("forecast_enqueued")
        else:
            about.info("forecast_already_enqueued", reason="another ingest, or this one before a restart, was first")

    def _enqueue_scoring(self, window: KlineWindow) -> None:
        """Have those forecasts scored whose last candle this window brings, or an earlier one."""
        if not is_any_due(self._forecasts, window):
            return
        if self._queue.enqueue_scoring(self._symbol, self._interval, window.last_open_time_ms):
            log.info("scoring_enqueued", series=str(self.series), candle=utc(window.last_open_time_ms))


def scheduled_request(settings: Settings, window: KlineWindow, snapshot_id: str) -> ForecastRequest:
    """What the schedule asks for after the last candle of `window`, with the seed that this candle has."""
    forecast_id = scheduled_forecast_id(window.symbol, window.interval, window.last_open_time_ms, window.origin)
    # The history is cut where the market has no longer one; the snapshot's problem says why.
    history = len(window) if len(window) < settings.data.history_window else None
    return build_request(
        settings,
        ForecastOverrides.model_validate({"symbol": window.symbol, "interval": window.interval, "history": history}),
        snapshot_id,
        scheduled=True,
        seed=seed_of(forecast_id),
    )
