"""The story of alerts: look at what was stored and how things stand, judge the rules, post what is new.

A look never sends: it leaves messages in outboxes. Of several processes that look at the same, Redis lets one post each.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import get_args

from services.alerts import messages
from services.alerts.judging import Judgement, judge_forecast, judge_system
from services.alerts.metrics import JUDGED, LOOKED_AT, TALLY, TOLD
from services.alerts.standing import Overlook, SeriesStanding, Standing
from shared.alert_rules import CoverageDrift, ForecastRule, Rule, SeriesSystemRule, WorkerGone
from shared.alert_store import AlertStore
from shared.klines import Interval
from shared.logs import get_logger
from shared.settings import Series, Settings

WORKERS = "workers"  # the subject of rules that look at no series

log = get_logger(__name__)


@dataclass(frozen=True)
class Asked:
    """A rule and one of the series that it is asked of; none where it is of the workers."""

    rule: Rule
    series: Series | None

    @property
    def subject(self) -> str:
        return f"{self.series.symbol}:{self.series.interval}" if self.series else WORKERS

    @property
    def key(self) -> tuple[str, str]:
        return self.rule.key, self.subject

    @property
    def of_forecast(self) -> bool:
        return isinstance(self.rule, get_args(ForecastRule))


def all_asked(settings: Settings) -> list[Asked]:
    """Each rule with each series that it is asked of, as the settings say."""
    return [Asked(rule, series) for rule in settings.alerts.rules for series in _series_of(rule, settings)]


def _series_of(rule: Rule, settings: Settings) -> Iterable[Series | None]:
    if isinstance(rule, WorkerGone):
        return [None]
    if rule.named_series is None:
        return settings.data.all_series
    symbol, interval = rule.named_series
    return [Series(symbol, Interval(interval))]


def judge(asked: Asked, standing: Standing) -> Judgement:
    """Whether a rule holds now, of the newest forecast or of how things stand."""
    rule, of_series = asked.rule, standing.series[asked.series] if asked.series else None
    if isinstance(rule, SeriesSystemRule | WorkerGone):
        return judge_system(rule, of_series, standing)
    if of_series is None or of_series.latest is None:
        return Judgement(False, "has no forecast yet.")
    return judge_forecast(rule, of_series.latest)


def _judged(asked: Asked, standing: Standing) -> Judgement:
    judgement = judge(asked, standing)
    TALLY.count(JUDGED, asked.rule.when, "holds" if judgement.holds else "quiet")
    return judgement


class Watch:
    """Looks on behalf of the settings' rules; `channels` are the labels of where messages are to go."""

    def __init__(
        self,
        settings: Settings,
        overlook: Overlook,
        store: AlertStore,
        channels: Sequence[str],
        now_ms: Callable[[], int],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._alerts = settings.alerts
        self._overlook = overlook
        self._store = store
        self._channels = channels
        self._now_ms = now_ms
        self._monotonic = monotonic
        asked = all_asked(settings)
        self._of_forecasts = [one for one in asked if one.of_forecast]
        self._of_system = [one for one in asked if not one.of_forecast]
        self._seen: dict[Series, tuple[str, ...]] = {}  # the newest forecasts that rules were asked of
        self._holds_since: dict[tuple[str, str], float] = {}  # of rules of the system, by the monotonic clock

    def look_at_forecasts(self) -> None:
        """Ask the rules of forecasts of each series that has a new one. Raises StoreUnavailableError."""
        series = {one.series for one in self._of_forecasts if one.series}
        if not series:
            return
        newest = self._overlook.newest_ids(series)
        changed = {one for one, ids in newest.items() if ids and self._seen.get(one) != ids}
        if changed:
            self._ask_of_forecasts(changed)
            self._seen |= {one: newest[one] for one in changed}
        TALLY.set(LOOKED_AT, self._now_ms() / 1000, "forecasts")

    def _ask_of_forecasts(self, changed: set[Series]) -> None:
        now_ms = self._now_ms()
        standing = self._overlook.standing(changed, (), now_ms)
        for asked in self._of_forecasts:
            if asked.series in changed:
                self._ask_of_forecast(asked, standing.series[asked.series], standing)

    def _ask_of_forecast(self, asked: Asked, of_series: SeriesStanding, standing: Standing) -> None:
        latest, judged = of_series.latest, _judged(asked, standing)
        if latest is None or not judged.holds:
            return
        message = messages.of_forecast(
            asked.rule, judged, latest, of_series.status, standing.now_ms, self._alerts.page_url
        )
        told = self._store.tell_of_forecast(
            *asked.key, latest.last_open_time_ms, self._cool_down(asked.rule), message, self._channels
        )
        if told != "known":
            if told == "told":
                TALLY.count(TOLD, asked.rule.when, "alert")
            log.info("alert_rule_holds", rule=asked.rule.title, forecast=latest.id, said=judged.said, message=told)

    def look_at_system(self) -> None:
        """Ask the rules of the system, and say what is over. Raises StoreUnavailableError."""
        if not self._of_system:
            return
        now_ms = self._now_ms()
        series = {one.series for one in self._of_system if one.series}
        drift_of = {one.series for one in self._of_system if one.series and isinstance(one.rule, CoverageDrift)}
        standing = self._overlook.standing(series, drift_of, now_ms)
        begun = self._store.begun([one.key for one in self._of_system])
        for asked in self._of_system:
            judged = _judged(asked, standing)
            if judged.holds:
                self._begin(asked, judged, now_ms)
            else:
                self._holds_since.pop(asked.key, None)
                if asked.key in begun:
                    self._end(asked, judged, begun[asked.key], now_ms)
        TALLY.set(LOOKED_AT, self._now_ms() / 1000, "system")

    def _begin(self, asked: Asked, judged: Judgement, now_ms: int) -> None:
        now = self._monotonic()
        if now - self._holds_since.setdefault(asked.key, now) < max(self._alerts.holds_for, judged.settles_s):
            return
        message = messages.of_system(asked.rule, judged, asked.series, now_ms, self._alerts.page_url)
        told = self._store.begin(*asked.key, now_ms, self._cool_down(asked.rule), message, self._channels)
        if told == "told":
            TALLY.count(TOLD, asked.rule.when, "alert")
            log.warning("alert_rule_holds", rule=asked.rule.title, subject=asked.subject, said=judged.said)

    def _end(self, asked: Asked, judged: Judgement, since_ms: int, now_ms: int) -> None:
        message = messages.of_end(asked.rule, judged, asked.series, since_ms, now_ms, self._alerts.page_url)
        if self._store.end(*asked.key, message, self._channels) == "told":
            TALLY.count(TOLD, asked.rule.when, "over")
            log.info("alert_rule_over", rule=asked.rule.title, subject=asked.subject, said=judged.said)

    def _cool_down(self, rule: Rule) -> int:
        return self._alerts.cool_down if rule.cool_down is None else rule.cool_down
