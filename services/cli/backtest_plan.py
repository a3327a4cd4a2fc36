"""What a backtest's options come to: the range of time, the wishes of each forecast, and what a folder is checked by."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from services.cli.backtest_source import History, Source
from services.inference.backtest.origins import Origin, find_origins
from shared.adhoc_forecasts import read_wishes
from shared.errors import RequestError
from shared.forecasts import ForecastOverrides
from shared.klines import Interval
from shared.settings import Settings


@dataclass(frozen=True)
class Plan:
    """Of one source: which moments (UTC ms) are forecast from, and what is asked at each."""

    source: Source
    wishes: ForecastOverrides
    settings: Settings
    reported_from_ms: int  # the first reported origin; those before it only teach
    from_ms: int
    until_ms: int
    every_ms: int
    windows: int | None

    @property
    def interval(self) -> Interval:
        return self.source.series.interval

    @property
    def known(self) -> int:
        """Candles that must lie before a moment: the history, and one more for as many returns."""
        data = self.settings.data
        return max(self.wishes.history or data.history_window, data.volatility_window) + 1

    @property
    def horizon(self) -> int:
        return self.wishes.horizon or self.settings.data.forecast_horizon

    @property
    def klines_from_ms(self) -> int:
        return self.from_ms - self.known * self.interval.ms

    def origins(self, history: History) -> list[Origin]:
        """Raises RequestError where there is none."""
        found = find_origins(
            history.stretches,
            self.interval,
            from_ms=self.from_ms,
            until_ms=self.until_ms,
            every_ms=self.every_ms,
            known=self.known,
            horizon=self.horizon,
            venue=history.venue,
            origin=history.origin,
        )
        origins = list(found)[: self.windows]
        if not origins:
            held = f"'{self.source.file}'" if self.source.file else history.venue
            raise RequestError(
                f"{held} has no {self.known - 1} candles of {self.source.series} without a gap before a moment from "
                f"{_day(self.from_ms)} to {_day(self.until_ms - 1)} and a whole horizon after it: choose other days."
            )
        return origins

    def described(self) -> dict[str, object]:
        """What has to be the same for a run to go on with another's forecasts."""
        wish, sampling, data = self.wishes, self.settings.sampling, self.settings.data
        return {
            **self.source.described(),
            "every_ms": self.every_ms,
            "model": wish.model or self.settings.model.model_name,
            "dtype": self.settings.model.dtype,
            "paths": wish.num_samples or sampling.num_samples,
            "history": wish.history or data.history_window,
            "horizon": self.horizon,
            "temperature": wish.temperature or sampling.temperature,
            "top_p": wish.top_p or sampling.top_p,
            "top_k": sampling.top_k,
            "target_error": sampling.target_error,
            "volatility_window": data.volatility_window,
            "max_context": self.settings.model.max_context,
            "overflow": self.settings.model.overflow,
        }


def plan_of(source: Source, settings: Settings, options: dict[str, Any]) -> Plan:
    """Checked as every request is. Raises RequestError."""
    interval, every_ms = source.series.interval, options["every"]
    if every_ms % interval.ms:
        raise RequestError(f"--every must be a multiple of {interval}, the interval of the candles.")
    first, last = options["first_day"], options["last_day"]
    if last < first:
        raise RequestError(f"--to {last:%Y-%m-%d} lies before --from {first:%Y-%m-%d}: name a later day.")
    named = {"model": "model", "paths": "num_samples", "history": "history", "horizon": "horizon"}
    named |= {"temperature": "temperature", "top_p": "top_p"}
    wishes = read_wishes(settings, {wish: options[name] for name, wish in named.items() if options[name] is not None})
    return Plan(
        source=source,
        wishes=wishes,
        settings=settings,
        reported_from_ms=_ms(first),
        from_ms=min(_ms(day) for day in (first, options["learn_from"]) if day),
        until_ms=_ms(last) + Interval.D1.ms,
        every_ms=every_ms,
        windows=options["windows"],
    )


def _ms(day: datetime) -> int:
    return int(day.replace(tzinfo=UTC).timestamp() * 1000)


def _day(at_ms: int) -> str:
    return f"{datetime.fromtimestamp(at_ms / 1000, UTC):%Y-%m-%d}"
