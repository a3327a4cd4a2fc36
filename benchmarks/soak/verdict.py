"""What a soak comes to: which forecasts were lost, made twice or labelled wrongly, by what the stores and the logs say."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from benchmarks.soak.asking import Answers
from benchmarks.soak.stack import ASKED_INTERVAL, SCHEDULED_INTERVAL, SoakStack
from shared.forecasts import scheduled_forecast_id
from shared.settings import Series
from tests.venue_server import SYMBOLS

SERIES = [Series(symbol, interval) for symbol in SYMBOLS for interval in (ASKED_INTERVAL, SCHEDULED_INTERVAL)]


@dataclass(frozen=True)
class Verdict:
    """Each list says of each case what it is."""

    forecasts: int
    lost: list[str]
    doubled: list[str]
    mislabelled: list[str]


def newest_candles(stack: SoakStack) -> dict[Series, int | None]:
    """Open times (UTC ms) of the last candles that ingest has brought."""
    statuses = {one: stack.stores.klines.status(*one) for one in SERIES}
    return {one: status.last_open_time_ms if status else None for one, status in statuses.items()}


def judge(stack: SoakStack, answers: Answers, candles: Mapping[Series, int | None]) -> Verdict:
    """Of a stack that has no work left; `candles` are the newest that must have their forecasts (`newest_candles`)."""
    # Read before the stores, since the schedule goes on meanwhile: what is logged is stored.
    stored = Counter(str(json.loads(line)["forecast"]) for line in stack.log_lines('"forecast_stored"'))
    scheduled = {one: stack.stores.forecasts.scheduled_ids(*one, "live") for one in SERIES}
    made = [*answers.made, *(one for ids in scheduled.values() for one in ids)]
    gone = [f"{one} is stored no more" for one in made if not stack.stores.forecasts.exists(one)]
    skipped = [wrong for series, ids in scheduled.items() for wrong in _skipped(stack, series, ids, candles[series])]
    mislabelled = [wrong for series, ids in scheduled.items() for wrong in _mislabelled(stack, series, ids)]
    return Verdict(
        forecasts=len(made),
        lost=[*answers.lost, *gone, *skipped],
        doubled=_doubled(stored, set(made)),
        mislabelled=[*answers.mislabelled, *mislabelled],
    )


def _doubled(stored: Counter[str], made: set[str]) -> list[str]:
    """What workers stored more than once, or for nobody: a request that was sent again and carried out again."""
    twice = [f"{one} was stored {times} times" for one, times in stored.items() if times > 1]
    return twice + [f"{one} was made for nobody" for one in stored if one not in made]


def _skipped(stack: SoakStack, series: Series, ids: list[str], newest_ms: int | None) -> list[str]:
    """The candles from the first that has a forecast to the newest, without one."""
    symbol, interval = series
    if not ids or newest_ms is None:
        return [f"{symbol} {interval} has no forecast at all"]
    first_ms = stack.stores.forecasts.load(ids[0]).last_open_time_ms
    candles = range(first_ms, newest_ms + 1, interval.ms)
    due = [scheduled_forecast_id(symbol, interval, candle, "live") for candle in candles]
    return [f"{one} was never made" for one in due if one not in ids]


def _mislabelled(stack: SoakStack, series: Series, ids: list[str]) -> list[str]:
    wrong = []
    for one in ids:
        forecast = stack.stores.forecasts.load(one)
        due = scheduled_forecast_id(*series, forecast.last_open_time_ms, "live")
        got = (forecast.provenance.venue, forecast.provenance.origin, due)
        if got != ("binance", "live", one):
            wrong.append(f"{one} says {got}")
    return wrong
