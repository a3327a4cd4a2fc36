"""Candles that a person sends, from rows of JSON or CSV to a window that can be trusted.

They are held against the very rules of ingested ones, but nothing is left out or mended: whoever sent them is told which
row is wrong, and why. Knows neither HTTP nor where a window is stored.
"""

from __future__ import annotations

import csv
import io
import reprlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.errors import RequestError
from shared.forecasts import MOMENT, Candle
from shared.klines import Interval, KlineWindow, find_defects, utc
from shared.settings import SHORTEST_HISTORY

SYMBOL = "UPLOADED"  # a name of their own, so that they never stand among, or push out, what a venue has told
VENUE = "upload"
PRICES = ("open", "high", "low", "close")
NEEDED = ("open_time", *PRICES, "volume")
AMOUNTS = ("amount", "quote_volume")


def uploaded_window(candles: Sequence[Candle], interval: Interval | None, *, at_most: int, now_ms: int) -> KlineWindow:
    """The window of what was sent; its interval is told by the candles where it is not given. `now_ms` is UTC ms.

    Raises RequestError that names the first row that breaks a rule; rows are counted from 0, without a line of names.
    """
    if not SHORTEST_HISTORY <= len(candles) <= at_most:
        raise _refused(
            f"klines has {len(candles)} candles, but allowed are {SHORTEST_HISTORY} to {at_most} (limits.max_history): "
            f"send {'more' if len(candles) < SHORTEST_HISTORY else 'the newest ones'}."
        )
    times = np.array([candle.open_time for candle in candles], dtype=np.int64)
    values = np.array([_values(candle) for candle in candles], dtype=np.float64)
    interval = _interval(times, interval)
    if defects := find_defects(times, values, interval):
        first = min(defects, key=lambda defect: defect.row)
        which = f" (the first of {len(defects)} defects)" if len(defects) > 1 else ""
        raise _refused(f"Row {first.row} of klines is not usable{which}: {first.kind}, {first.detail}.")
    window = KlineWindow(SYMBOL, interval, VENUE, "uploaded", times, values)
    if window.last_close_time_ms > now_ms:
        raise _refused(
            f"Row {len(candles) - 1} of klines, {utc(window.last_open_time_ms)}, is a candle that has not "
            f"closed yet: leave it out."
        )
    return window


def read_csv(text: str) -> list[dict[str, object]]:
    """Rows of CSV as candles are written in JSON, each cell a number where it reads as one. The first line names the
    columns: open_time (UTC ms or ISO 8601), open, high, low, close, volume, and amount or quote_volume where known.

    Raises RequestError that says what the first line lacks, or which row is none.
    """
    try:
        reader = csv.DictReader(io.StringIO(text), strict=True)
        names = reader.fieldnames or []
        if missing := [name for name in NEEDED if name not in names]:
            raise _refused(
                f"The first line of the CSV lacks {', '.join(missing)}: it must name the columns {', '.join(NEEDED)}, and "
                f"may name amount or quote_volume."
            )
        amount = next((name for name in AMOUNTS if name in names), None)
        rows = []
        for row in reader:
            cells: dict[str, object] = {name: _number(row[name]) for name in NEEDED}
            rows.append(cells if amount is None else {**cells, "amount": _number(row[amount])})
    except csv.Error as error:
        raise _refused(f"The CSV cannot be read ({error}): send comma-separated rows in UTF-8.") from None
    return rows


def _interval(times: NDArray[np.int64], named: Interval | None) -> Interval:
    """Rows of 1 h would otherwise pass for 4 h candles with gaps."""
    steps, counts = np.unique(np.diff(times), return_counts=True)
    usual = int(steps[counts.argmax()])
    found = next((interval for interval in Interval if interval.ms == usual), None)
    if found is None or named not in (None, found):
        allowed = named or "one of " + ", ".join(Interval)
        raise RequestError(
            f"The candles of klines are {usual / 60_000:g} minutes apart, but allowed is {allowed}"
            f"{' (interval)' if named else ''}; open_time is in UTC milliseconds, or in ISO 8601.",
            field="interval" if named else "klines",
        )
    return found


def _values(candle: Candle) -> list[float]:
    prices = [candle.open, candle.high, candle.low, candle.close]
    amount = candle.volume * sum(prices) / len(prices) if candle.amount is None else candle.amount
    return [*prices, candle.volume, amount]


def _number(cell: str | None) -> object:
    """A cell as JSON would have it: what is no number stays text, and is named as such where candles are read."""
    for kind in (int, float):
        try:
            return kind(cell or "")
        except ValueError:
            continue
    return cell


def _refused(message: str) -> RequestError:
    return RequestError(message, field="klines")


def describe_candle_problem(problem: Mapping[str, Any]) -> str:
    """In words, what pydantic found wrong with one candle: which row, what stands there, what is allowed."""
    place, *inside = problem["loc"][1:]
    found = "nothing" if problem["input"] is None else reprlib.repr(problem["input"])
    if not inside:
        return f"Row {place} of klines is {found}, but allowed is an object with {_columns()}."
    column = str(inside[0])
    if problem["type"] == "missing":
        return f"Row {place} of klines lacks {column}: each has {_columns()}."
    if problem["type"] == "extra_forbidden":
        return f"Row {place} of klines has {reprlib.repr(column)}, but each has {_columns()}."
    if column == "open_time":
        why = f", which {problem['msg']}" if problem["type"] == "moment" else ""
        return f"Row {place} of klines has {found} as its open_time{why}, but allowed are {MOMENT}."
    return f"Row {place} of klines has {found} as its {column}, but allowed is a number."


def _columns() -> str:
    return f"{', '.join(NEEDED)} and, where it is known, amount"
