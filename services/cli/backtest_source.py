"""What a backtest forecasts from: a file of klines, or a symbol whose klines are fetched from a venue into its folder."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from services.cli.common import now_ms
from services.inference.training.kline_files import Stretch, read_stretches
from shared.errors import RequestError
from shared.klines import Interval, Origin, utc
from shared.settings import Series, Settings

GAPS_NAMED = 3


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
    if not re.fullmatch(r"[A-Z0-9]{2,20}", named):
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
    if until_ms > now_ms():
        today = utc(Interval.D1.open_time(now_ms()))[:10]
        last = utc(until_ms - Interval.D1.ms)[:10]
        raise RequestError(f"--to {last} is not over yet: the last day must be one before {today} (UTC).")
    if find_spec("httpx") is None or find_spec("services.ingest") is None:
        raise RequestError(
            "Klines of a symbol are fetched with httpx and the parts of ingest, which are not installed here: pip install -e "
            "'.[ingest]' in a checkout, or name a file of klines."
        )
    # Only here: a backtest of a file asks no venue.
    from services.ingest.history_file import fetch_history

    file, venue = fetch_history(settings, source.series, from_ms, until_ms, folder, wait=wait, tell=tell)
    return History(read_stretches(file, source.series.interval), venue, "live")


def gaps_in_words(history: History, interval: Interval, from_ms: int, until_ms: int) -> str | None:
    """Where candles are missing between two moments (UTC ms), in one sentence; None where all are there."""
    ends = [from_ms, *(time for part in history.stretches for time in (_first(part), _end(part, interval))), until_ms]
    gaps = [
        (max(start, from_ms), min(end, until_ms))
        for start, end in zip(ends[::2], ends[1::2], strict=True)
        if min(end, until_ms) - max(start, from_ms) >= interval.ms
    ]
    if not gaps:
        return None
    missing = sum(end - start for start, end in gaps) // interval.ms
    where = f"at {history.venue}" if history.origin == "live" else "in the file"
    named = [f"{(end - start) // interval.ms} from {utc(start)}" for start, end in gaps[:GAPS_NAMED]]
    more = f"; and {len(gaps) - GAPS_NAMED} more gaps" if len(gaps) > GAPS_NAMED else ""
    return (
        f"{missing} candles are missing {where} ({'; '.join(named)}{more}); no forecast is made whose history or "
        f"horizon a gap cuts."
    )


def _first(part: Stretch) -> int:
    return int(part.open_times_ms[0])


def _end(part: Stretch, interval: Interval) -> int:
    return int(part.open_times_ms[-1]) + interval.ms


def _series_of(file: Path) -> Series:
    found = re.fullmatch(r"([A-Z0-9]{2,20})-([0-9]+[mhd])\.csv(\.gz)?", file.name)
    if not found or found[2] not in [one.value for one in Interval]:
        raise RequestError(f"{file.name} does not say what it holds: name it as BTCUSDT-1h.csv or BTCUSDT-1h.csv.gz.")
    return Series(found[1], Interval(found[2]))
