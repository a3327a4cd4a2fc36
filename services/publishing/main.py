"""`kronos-live publish`: looks at the stores again and again, and writes the site anew when there is another forecast.

Stores announce nothing, so whoever wants to know looks (as services/web/live.py does): a look costs two small questions, none
can be missed, and a start is a look like any other. Nobody waits for this process: what fails here is told and tried again.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType

from services.publishing.folder import write_whole
from services.publishing.git.history import SiteHistory
from services.publishing.metrics import TALLY, counted, failed, went_well
from services.publishing.site import Files, site_files
from services.publishing.told import Told, read_newest, stale_reason, tell
from shared.errors import KronosLiveError, NotFoundError, SettingsError
from shared.forecast_store import ForecastStore
from shared.kline_store import KlineStore
from shared.logs import configure_logs, get_logger
from shared.metrics_server import serve_metrics
from shared.redis_connection import connect
from shared.settings import DEFAULT_CONFIG, Settings

LOOK_S = 5.0
AFTER_FAILURE_S = 30.0
PROJECT = DEFAULT_CONFIG.parent.parent
REDIS_ANSWERS_WITHIN_S = 5  # so that one that hangs is told of and asked again

# What a site was written of: the forecast, and whether it was stale by then.
Written = tuple[str, bool]

log = get_logger(__name__)


class Publisher:
    """Keeps a folder at the newest forecast of one series."""

    def __init__(
        self, settings: Settings, klines: KlineStore, forecasts: ForecastStore, history: SiteHistory | None = None
    ) -> None:
        self._settings = settings
        self._klines = klines
        self._forecasts = forecasts
        self._history = history
        self._written: Written | None = None

    def look(self, now_ms: int) -> bool:
        """Write the site where another one is due at `now_ms` (UTC ms); whether it was.

        Raises NotFoundError where there is no forecast yet, StoreUnavailableError and PublishError.
        """
        symbol, interval = self._settings.data.symbol, self._settings.data.interval
        with counted("read"):
            forecast, series = read_newest(self._klines, self._forecasts, symbol, interval, now_ms)
            due = forecast.id, stale_reason(forecast, series, now_ms) is not None
            if due == self._written:
                return False
            calibrates = self._settings.calibration.enabled
            told = tell(self._klines, self._forecasts, symbol, interval, now_ms, calibrates=calibrates)
        self._publish(told, site_files(told))
        self._written = due
        return True

    def _publish(self, told: Told, files: Files) -> None:
        folder = self._settings.publish.folder
        with counted("write"):
            write_whole(folder, files)
        log.info("site_written", forecast=told.forecast.id, folder=str(folder), said=[one.title for one in told.said])
        if self._history is not None:
            self._commit(self._history, told, files)

    def _commit(self, history: SiteHistory, told: Told, files: Files) -> None:
        with counted("commit"):
            update = history.update(files, _message(told))
        log.info("site_committed", forecast=told.forecast.id, commit=update.commit, pushed=update.pushed)
        if update.pushed:
            went_well("push")
        if update.reason:
            failed("push", update.reason)
            log.warning("site_not_pushed", forecast=told.forecast.id, reason=update.reason, problem=update.problem)


def _message(told: Told) -> str:
    """What a history says of an update: the forecast, its upside, and what must not be overlooked."""
    forecast = told.forecast
    labels = "".join(f", {one.title}" for one in told.said)
    return f"{forecast.id}: upside {forecast.upside.value * 100:.1f} %{labels}"


def run(settings: Settings) -> None:
    """Publish until SIGTERM or SIGINT. Raises SettingsError where it is not to."""
    if not settings.publish.enabled:
        raise SettingsError(
            "publish.enabled (KRONOS_PUBLISH__ENABLED) is false, so nothing is published: set it to true, or write the site once "
            "with `kronos-live export`.",
            field="publish.enabled",
        )
    configure_logs(settings.logs, "publish")
    _on_stop(signal.default_int_handler)
    serve_metrics(settings.metrics, "publish", TALLY.exposition)
    redis = connect(settings.redis, answer_timeout_s=REDIS_ANSWERS_WITHIN_S)
    klines = KlineStore(redis, settings.retention.snapshots_per_series)
    forecasts = ForecastStore(redis, settings.retention.forecasts_per_series)
    history = SiteHistory(settings.publish, PROJECT) if settings.publish.git.enabled else None
    publisher = Publisher(settings, klines, forecasts, history)
    log.info(
        "publishing", series=f"{settings.data.symbol} {settings.data.interval}", folder=str(settings.publish.folder)
    )
    try:
        look_forever(publisher, looked_at(settings.publish.folder), time.sleep)
    except KeyboardInterrupt:
        _on_stop(signal.SIG_IGN)  # a Ctrl+C often comes twice: from the terminal, and from what runs us
        log.info("publish_stopped")


def look_forever(publisher: Publisher, looked: Path, sleep: Callable[[float], None]) -> None:
    """One look after the other. What goes wrong is told once, until something else does, and looked at again."""
    last_problem: str | None = None
    while True:
        problem = _problem_of_a_look(publisher)
        if problem and problem != last_problem:
            log.warning("site_not_written", problem=problem)
        last_problem = problem
        looked.parent.mkdir(parents=True, exist_ok=True)
        looked.touch()
        sleep(AFTER_FAILURE_S if problem else LOOK_S)


def looked_at(folder: Path) -> Path:
    """The file beside a site whose time is that of the last look: what a healthcheck goes by."""
    site = folder.resolve()
    return site.parent / f".{site.name}-looked"


def _problem_of_a_look(publisher: Publisher) -> str | None:
    try:
        publisher.look(time.time_ns() // 1_000_000)
    except NotFoundError as error:
        log.debug("nothing_to_publish", why=error.message)
    except KronosLiveError as error:
        return error.message
    return None


def _on_stop(do: Callable[[int, FrameType | None], object] | signal.Handlers) -> None:
    for stop in (signal.SIGTERM, signal.SIGINT):
        signal.signal(stop, do)
