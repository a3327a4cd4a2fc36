"""Past klines to keep: SYMBOL-INTERVAL.csv.gz in a folder, and beside it which venue they are of and how far they reach.

A file appears whole or not at all: until all is there, what has come is kept beside it in a folder of its own
(SYMBOL-INTERVAL.unfinished), where an interrupted fetch goes on. A file that is there is extended, by the same venue and only
where it is as it was written here.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

from services.ingest.history_file import HEADER, HistoryFile, Reached, fetch_history
from shared.errors import RequestError, VenueError
from shared.file_locks import taken
from shared.klines import utc
from shared.settings import Series, Settings

IN_USE = ".in-use"
_ELSEWHERE = "choose another folder, or move it away."


class Kept(Reached):
    """What a file holds: all that its venue had between two moments; `sha256` is of the file as it was written."""

    sha256: str


class KeptFile:
    """The file of one series in a folder, which is made when something is kept there."""

    def __init__(self, folder: Path, series: Series) -> None:
        stem = f"{series.symbol}-{series.interval}"
        self.path = folder / f"{stem}.csv.gz"
        self.unfinished = folder / f"{stem}.unfinished"
        self._series = series
        self._source = folder / f"{stem}.source.json"
        self._others = [folder / f"{stem}{ending}" for ending in (".csv", ".parquet")]

    def read(self) -> Kept | None:
        """None where there is no file. Raises RequestError where one lies there that is not known well enough."""
        if other := next((one for one in self._others if one.exists()), None):
            raise RequestError(f"'{other}' is there already, and the same candles twice would be wrong: {_ELSEWHERE}")
        if not self.path.exists():
            return None
        try:
            kept = Kept.model_validate_json(self._source.read_bytes())
        except (OSError, ValueError):
            raise RequestError(
                f"'{self.path}' is there already, and no '{self._source.name}' says which venue it is of, so it is not "
                f"extended: {_ELSEWHERE}"
            ) from None
        if (kept.symbol, kept.interval) != self._series or kept.sha256 != _sha256(self.path):
            raise RequestError(
                f"'{self.path}' is not what was written here, by what '{self._source.name}' says, so it is not extended: "
                f"{_ELSEWHERE}"
            )
        return kept

    def rows(self) -> bytes:
        """As CSV, without the header."""
        return gzip.decompress(self.path.read_bytes()).partition(b"\n")[2]

    def replace(self, csv: bytes, reached: Reached) -> Kept:
        """Write it anew and drop what was unfinished. Raises VenueError where there is no candle."""
        if len(csv) == len(HEADER):
            raise VenueError(
                f"{reached.venue} has no candle of {self._series} between {utc(reached.from_ms)} and {utc(reached.until_ms)}."
            )
        packed = gzip.compress(csv, mtime=0)  # the same candles are the same file
        # What is missing at the end may be a candle that the venue has yet to tell: it is asked for again.
        end_ms = int(csv.rstrip(b"\n").rpartition(b"\n")[2].partition(b",")[0]) + self._series.interval.ms
        kept = Kept(
            **reached.model_dump(exclude={"until_ms"}),
            until_ms=min(end_ms, reached.until_ms),
            sha256=hashlib.sha256(packed).hexdigest(),
        )
        # Killed between the two, the next run finds the unfinished folder and does this again.
        for file, content in ((self.path, packed), (self._source, kept.model_dump_json(indent=2).encode() + b"\n")):
            draft = self.unfinished / f"{file.name}.new"
            with draft.open("wb") as written:
                written.write(content)
                written.flush()
                os.fsync(written.fileno())
            draft.replace(file)
        shutil.rmtree(self.unfinished)
        return kept


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Hold a folder of files: two that extend the same file would spoil it. It is made where it is not there, and is gone again
    where nothing came to be kept in it. Raises RequestError where another holds it.
    """
    made, path = not folder.exists(), folder / IN_USE
    folder.mkdir(parents=True, exist_ok=True)
    with path.open("w") as lock:
        # One that was ending may have taken the file away after we had opened it: then the next one opens another.
        if not taken(lock) or not _is_at(lock, path):
            raise RequestError(
                f"Another `kronos-live klines` writes '{folder}': wait until it is done, or choose another folder."
            )
        try:
            yield
        finally:
            path.unlink()
            if made:
                with suppress(OSError):  # it holds something
                    folder.rmdir()


def _is_at(file: TextIO, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def keep_past_klines(
    settings: Settings,
    series: Series,
    from_ms: int,
    until_ms: int,
    folder: Path,
    *,
    venue: str | None,
    wait: Callable[[float], None],
    tell: Callable[[int, str], None],
) -> tuple[Path, Kept]:
    """Have a folder hold a file of all that one venue has between two moments (UTC ms), at least; returns it and what it holds.

    `venue` must be the one that it is of, unless it is None. No venue is asked where the file is there. `tell` hears how many
    candles' time is there, and in words what is waited for. Raises RequestError, UnknownSeriesError or VenueError; what came
    until then is kept.
    """
    file = KeptFile(folder, series)
    work = HistoryFile(file.unfinished, series)
    reached = work.reached()
    if reached is None:
        kept = file.read()
        if kept is not None:
            _refuse(file.path, kept, venue, from_ms)
            if kept.until_ms >= until_ms:
                return file.path, kept
            work.begin(kept.venue, kept.from_ms, kept.until_ms, file.rows())
    else:
        _refuse(file.unfinished, reached, venue, from_ms)
    csv, reached = fetch_history(settings, series, from_ms, until_ms, file.unfinished, wait=wait, tell=tell)
    return file.path, file.replace(csv.read_bytes(), reached)


def _refuse(path: Path, held: Reached, venue: str | None, from_ms: int) -> None:
    if venue not in (None, held.venue):
        raise RequestError(f"'{path}' holds klines of {held.venue}, not of {venue}: {_ELSEWHERE}")
    if from_ms < held.from_ms:
        raise RequestError(
            f"'{path}' holds klines from {utc(held.from_ms)} on, but they are wanted from {utc(from_ms)}, and a file is only "
            f"extended at its end: {_ELSEWHERE}"
        )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
