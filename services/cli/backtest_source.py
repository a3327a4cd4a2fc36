"""What a backtest forecasts from: a file of klines, or a symbol whose klines are fetched from a venue into its folder."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from services.cli.venue_klines import SYMBOL, gaps_between, gaps_in_words, refuse_future, require_ingest
from services.inference.training.kline_files import Stretch, read_stretches
from shared.errors import RequestError
from shared.klines import Interval, Origin
from shared.settings import Series, Settings


@dataclass(frozen=True)
class Source:
    """Klines of one series: of the file that is named, or of the venues where there is none."""

    series: Series
    file: Path | None

    def described(self) -> dict[str, object]:
        """What has to be the same for a run to go on with another's forecasts."""
        if self.file is None:
            return {"series": str(self.series)}
        return {"file": self.file.name, "bytes": self.file.stat().st_size}


@dataclass(frozen=True)
class History:
    """The klines themselves, and where they are from."""

    stretches: list[Stretch]
    venue: str
    origin: Origin


def source_of(named: str, interval: str | None, settings: Settings) -> Source:
    """Of what a person wrote: FILE or SYMBOL, and --interval. Raises RequestError."""
    file = Path(named)
    if file.is_file():
        if interval is not None:
            raise RequestError(
                f"--interval goes with a symbol; the name of '{file.name}' says how long its candles are."
            )
        return Source(_series_of(file), file)
    if "/" in named or "." in named:
        raise RequestError(f"There is no file '{named}': name one that there is, or a symbol such as BTCUSDT.")
    if not SYMBOL.fullmatch(named):
        raise RequestError(f"{named!r} is neither a file nor a symbol: write a symbol as Binance does, as in BTCUSDT.")
    return Source(Series(named, Interval(interval or settings.data.interval)), None)


def read_history(
    source: Source,
    settings: Settings,
    from_ms: int,
    until_ms: int,
    folder: Path,
    *,
    wait: Callable[[float], None],
    tell: Callable[[int, str], None],
) -> History:
    """The klines of a source, those of a symbol between two moments (UTC ms), fetched into a folder as far as they are not
    there. `tell` hears how many candles' time has been fetched, and what is waited for. Raises KronosLiveError.
    """
    if source.file is not None:
        return History(read_stretches(source.file, source.series.interval), "file", "recorded")
    refuse_future("--to", until_ms)
    require_ingest("or name a file of klines")
    # Only here: a backtest of a file asks no venue.
    from services.ingest.history_file import fetch_history

    file, reached = fetch_history(settings, source.series, from_ms, until_ms, folder, wait=wait, tell=tell)
    return History(read_stretches(file, source.series.interval), reached.venue, "live")


def gaps_of(history: History, interval: Interval, from_ms: int, until_ms: int) -> str | None:
    """Where candles are missing between two moments (UTC ms), in one sentence; None where all are there."""
    where = f"at {history.venue}" if history.origin == "live" else "in the file"
    missing = gaps_in_words(gaps_between(history.stretches, interval, from_ms, until_ms), where)
    return missing and f"{missing}; no forecast is made whose history or horizon a gap cuts."


def _series_of(file: Path) -> Series:
    found = re.fullmatch(r"([A-Z0-9]{2,20})-([0-9]+[mhd])\.csv(\.gz)?", file.name)
    if not found or found[2] not in [one.value for one in Interval]:
        raise RequestError(f"{file.name} does not say what it holds: name it as BTCUSDT-1h.csv or BTCUSDT-1h.csv.gz.")
    return Series(found[1], Interval(found[2]))
