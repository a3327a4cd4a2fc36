"""A long history on disk: a CSV of klines that grows page by page, and beside it how far it reaches and whose it is.

The CSV is named SYMBOL-INTERVAL.csv and can be handed to anything that reads such files. What was fetched once is not
asked for again: a fetch that was interrupted goes on where it was, with the same venue. `past_klines.py` makes of it a file
to keep.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Callable
from pathlib import Path

from services.ingest.history import History, Page
from services.ingest.market import live_venues_of
from shared.contract import Contract
from shared.errors import RequestError, VenueError
from shared.klines import Interval, utc
from shared.settings import Series, Settings

STATE = "klines.json"
HEADER = "open_time,open,high,low,close,volume,amount\n"


class Reached(Contract):
    """What the CSV holds: all that its venue had of one series between two moments (UTC ms)."""

    symbol: str
    interval: Interval
    venue: str
    from_ms: int
    until_ms: int


class HistoryFile:
    """The klines of one series in a folder, which is made when something is kept there."""

    def __init__(self, folder: Path, series: Series) -> None:
        self._folder = folder
        self._series = series
        self.path = folder / f"{series.symbol}-{series.interval}.csv"

    def reached(self) -> Reached | None:
        """How far it goes; None where there is nothing yet. Raises RequestError where another series lies there."""
        file = self._folder / STATE
        if not file.exists():
            return None
        reached = Reached.model_validate_json(file.read_text())
        if (reached.symbol, reached.interval) != self._series:
            raise RequestError(
                f"'{self._folder}' holds klines of {reached.symbol} {reached.interval}, not of {self._series}: choose "
                f"another folder."
            )
        return reached if self.path.exists() else None

    def begin(self, venue: str, from_ms: int, until_ms: int, rows: bytes = b"") -> Reached:
        """With nothing, or with the rows that are there already: all that the venue had up to until_ms."""
        self._folder.mkdir(parents=True, exist_ok=True)
        (self._folder / STATE).unlink(missing_ok=True)  # what it said was of another CSV
        self.path.write_bytes(HEADER.encode() + rows)
        return self._note(venue, from_ms, until_ms)

    def drop_rest(self, reached: Reached) -> None:
        """Cut off what a run that was killed had written and not yet noted."""
        lines = self.path.read_bytes().splitlines(keepends=True)
        noted = [line for line in lines[1:] if line.endswith(b"\n") and int(line.split(b",")[0]) < reached.until_ms]
        if len(noted) < len(lines) - 1:
            os.truncate(self.path, sum(map(len, [lines[0], *noted])))  # takes no room, which a full disk has not

    def append(self, reached: Reached, page: Page) -> Reached:
        with self.path.open("a", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            # A float is written so that reading gives the same one.
            writer.writerows(
                [time, *map(repr, row)]
                for time, row in zip(page.open_times_ms.tolist(), page.values.tolist(), strict=True)
            )
            file.flush()
            os.fsync(file.fileno())
        return self._note(reached.venue, reached.from_ms, page.until_ms)

    def _note(self, venue: str, from_ms: int, until_ms: int) -> Reached:
        symbol, interval = self._series
        reached = Reached(symbol=symbol, interval=interval, venue=venue, from_ms=from_ms, until_ms=until_ms)
        draft = self._folder / f"{STATE}.new"
        draft.write_text(reached.model_dump_json(indent=2) + "\n")
        draft.replace(self._folder / STATE)
        return reached


def fetch_history(
    settings: Settings,
    series: Series,
    from_ms: int,
    until_ms: int,
    folder: Path,
    *,
    wait: Callable[[float], None],
    tell: Callable[[int, str], None],
) -> tuple[Path, Reached]:
    """Have a folder hold all that one venue has between two moments (UTC ms); returns the CSV and what it holds.

    No venue is asked where it holds that already. `tell` hears how many candles' time is there, and in words what is
    waited for, if anything. Raises RequestError, UnknownSeriesError or VenueError; what came until then is kept.
    """
    kept = HistoryFile(folder, series)
    reached = kept.reached()

    def report(said: str = "") -> None:
        done_ms = reached.until_ms - reached.from_ms if reached else 0
        tell(done_ms // series.interval.ms, said)

    if reached is not None:
        _refuse_earlier(folder, series, reached, from_ms)
        kept.drop_rest(reached)
        report()
        if reached.until_ms >= until_ms:
            return kept.path, reached
    if "recorded" in settings.data.venues:
        raise RequestError(
            "data.venues is recorded, so no venue may be asked for klines: name the file, as in `kronos-live backtest "
            f"{series.symbol}-{series.interval}.csv`."
        )
    history = History(live_venues_of(settings), series, wait, report)
    if reached is None:
        reached = kept.begin(history.choose_venue(until_ms), from_ms, from_ms)
    try:
        for page in history.pages(reached.venue, reached.until_ms, until_ms):
            reached = kept.append(reached, page)
            report()
    except VenueError as error:
        raise VenueError(
            f"{error.message} The klines up to {utc(reached.until_ms)} are kept in '{folder}': the same command goes on from "
            f"there."
        ) from None
    return kept.path, reached


def _refuse_earlier(folder: Path, series: Series, reached: Reached, from_ms: int) -> None:
    if from_ms < reached.from_ms:
        raise RequestError(
            f"'{folder}' holds klines of {series} from {utc(reached.from_ms)} on, but they are wanted from {utc(from_ms)}: "
            f"choose another folder, or delete it to begin anew."
        )
