"""One fetch: what RQ calls for a series that nobody ingests and somebody wants a forecast of.

It asks the same market as the schedule does and stores a snapshot, but leaves the series' state alone: nobody keeps that
series up, so nobody may take it for live. Nothing is made up here: of a symbol that was never seen, nobody knows whether
it exists. RQ calls by name with plain JSON, so what the fetches work with is laid out beforehand (`equip`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tenacity import Retrying, retry_if_exception, stop_after_delay, wait_exponential

from services.ingest.market import Found, Market
from shared.errors import KronosLiveError, StoreUnavailableError, UnknownSymbolError, VenueError
from shared.fetches import record_fetched
from shared.forecast_queue import current_job, record_failure
from shared.kline_store import KlineStore
from shared.klines import Interval, utc
from shared.logs import get_logger
from shared.settings import Series, Settings
from shared.venue_symbols import VenueSymbols, describe_untraded

# A candle that has just closed is there within moments; whoever waits for a venue that is down should soon hear so.
PATIENCE_S = 10

log = get_logger(__name__)


@dataclass(frozen=True)
class Workbench:
    """What every fetch of this process works with; `wait` waits a number of seconds."""

    settings: Settings
    market: Market
    klines: KlineStore
    symbols: VenueSymbols
    wait: Callable[[float], None]


_workbench: Workbench | None = None


def equip(workbench: Workbench) -> None:
    """Lay out what the fetches of this process work with, before the first is taken from the queue."""
    global _workbench  # noqa: PLW0603 - RQ calls jobs by name and can hand them nothing but JSON
    _workbench = workbench


def run_fetch(symbol: str, interval: str) -> str:
    """Fetch the newest closed candles of a series, store them and return the snapshot's id. What fails raises, with its
    reason kept for the forecasts that wait for it.
    """
    if _workbench is None:
        raise RuntimeError("this process was never equipped: start it with `kronos-live ingest`")
    series = Series(symbol, Interval(interval))
    about = log.bind(fetch=current_job().id, series=str(series))
    try:
        found = _find(_workbench, series)
        snapshot_id = _workbench.klines.save(found.window)
    except KronosLiveError as error:
        about.warning("fetch_failed", reason=error.message)
        record_failure(current_job(), error.message, permanent=not isinstance(error, StoreUnavailableError))
        raise
    except Exception as error:
        reason = f"Klines of {series} could not be fetched ({type(error).__name__}); ingest's log has the details."
        record_failure(current_job(), reason, permanent=True)
        raise
    about.info("fetched", venue=found.window.venue, snapshot=snapshot_id, candle=utc(found.window.last_open_time_ms))
    record_fetched(current_job(), snapshot_id, found.window.last_open_time_ms)
    return snapshot_id


def _find(workbench: Workbench, series: Series) -> Found:
    """What the venues have of a series, which they are asked again for a while. Raises VenueError."""
    if "recorded" in workbench.settings.data.venues:
        held = workbench.settings.data.all_series[0]
        raise UnknownSymbolError(f"This ingest reads a recording (data.recorded_file), which holds {held} alone.")
    market = workbench.market.of(series, goes_first=True)
    attempts = Retrying(
        retry=retry_if_exception(_may_pass),
        wait=wait_exponential(multiplier=0.5),
        stop=stop_after_delay(PATIENCE_S),
        sleep=workbench.wait,
        reraise=True,
    )
    try:
        return attempts(market.find, None, may_simulate=False)
    except UnknownSymbolError:
        venues = workbench.settings.data.venues
        known = workbench.symbols.known(venues)
        raise UnknownSymbolError(describe_untraded(series.symbol, venues, known)) from None


def _may_pass(error: BaseException) -> bool:
    """Not where no venue trades the symbol, nor where all want to be left alone for longer than anybody should wait."""
    if not isinstance(error, VenueError) or isinstance(error, UnknownSymbolError):
        return False
    return (error.retry_after_s or 0.0) <= PATIENCE_S
