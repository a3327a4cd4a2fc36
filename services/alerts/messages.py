"""What a person reads: one message in plain words, with the series, the value, the level, the moment and where it all came from.
Pure.
"""

from __future__ import annotations

from urllib.parse import urlencode

from services.alerts.judging import Judgement
from shared.alert_rules import Rule
from shared.alert_store import Message
from shared.forecasts import Forecast
from shared.freshness import is_stale, successor_due_ms
from shared.kline_store import SeriesStatus
from shared.klines import utc
from shared.labels import forecast_labels
from shared.settings import Series

SENDER = "Kronos Live"
EXPLAINED = {
    "SIMULATED DATA": "made from simulated candles, of no market",
    "RECORDED DATA": "made from a recording of the past",
    "BUNDLED MODEL": "made by the small bundled model",
}


def of_forecast(
    rule: Rule, judged: Judgement, forecast: Forecast, status: SeriesStatus | None, now_ms: int, page_url: str
) -> Message:
    """That a rule holds for a forecast; whether that is stale at `now_ms` (UTC ms) is said."""
    asked, made = forecast.request, forecast.provenance
    marks = _marks(forecast, status, now_ms)
    created = utc(round(forecast.created_at.timestamp() * 1000))
    lines = [
        f"{asked.symbol} {asked.interval} {judged.said}",
        f"Forecast {forecast.id}: {asked.horizon} candles after the one of {utc(forecast.last_open_time_ms)} on {made.origin} "
        f"candles of {made.venue.capitalize()}, made {created} by {made.model.name}.",
        *(f"{mark}: {said}." for mark, said in marks.items()),
        _link(page_url, f"/forecasts/{forecast.id}"),
    ]
    loud = "".join(f"[{mark}] " for mark in marks)
    return _message("alert", f"{SENDER}: {loud}{asked.symbol} {asked.interval}: {rule.title}", lines)


def of_system(rule: Rule, judged: Judgement, series: Series | None, now_ms: int, page_url: str) -> Message:
    """That something of the system has become so, seen at `now_ms`, UTC ms."""
    lines = [_of_whom(series, judged.said), f"Seen at {utc(now_ms)}; another message will say when it is over."]
    return _message("alert", f"{SENDER}: {_about(series)}{rule.title}", [*lines, _link(page_url, _way(series))])


def of_end(rule: Rule, judged: Judgement, series: Series | None, since_ms: int, now_ms: int, page_url: str) -> Message:
    """That it is over, after it was told of at `since_ms`, UTC ms."""
    told = f"Over at {utc(now_ms)}, after it was seen at {utc(since_ms)}."
    lines = [_of_whom(series, judged.said), told, _link(page_url, _way(series))]
    return _message("over", f"{SENDER}: over: {_about(series)}{rule.title}", lines)


def of_test(now_ms: int, page_url: str) -> Message:
    lines = [
        "This is a test of `kronos-live alerts test`: alerts of Kronos Live will come this way.",
        f"Sent at {utc(now_ms)}.",
        _link(page_url, "/"),
    ]
    return _message("test", f"{SENDER}: test", lines)


def _marks(forecast: Forecast, status: SeriesStatus | None, now_ms: int) -> dict[str, str]:
    """What must not be overlooked of the forecast, and what it means."""
    marks = {label: EXPLAINED.get(label, "see its page") for label in forecast_labels(forecast)}
    if is_stale(status, forecast, now_ms):
        due_ms = successor_due_ms(forecast)
        since = (
            f"a newer forecast has been due since {utc(due_ms)}" if due_ms <= now_ms else "newer candles cannot be had"
        )
        marks["STALE"] = since
    return marks


def _about(series: Series | None) -> str:
    return f"{series}: " if series else ""


def _of_whom(series: Series | None, said: str) -> str:
    return f"{series} {said}" if series else said


def _way(series: Series | None) -> str:
    return f"/?{urlencode({'symbol': series.symbol, 'interval': str(series.interval)})}" if series else "/"


def _link(page_url: str, way: str) -> str:
    return page_url.rstrip("/") + way if page_url else ""


def _message(kind: str, title: str, lines: list[str]) -> Message:
    return Message.model_validate({"kind": kind, "title": title, "body": "\n".join(line for line in lines if line)})
