"""What the API is asked and answers, as pydantic models: the API description is made of them."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field, RootModel

from services.web.problems import MEDIA_TYPE, Problem
from services.web.situation import Freshness
from shared.forecasts import Contract, Forecast, ForecastId, JobStatus
from shared.kline_store import SeriesStatus
from shared.klines import Interval
from shared.settings import Symbol

WRITE_TOKEN = "write_token"  # noqa: S105 - the security scheme's name in the API description
SYMBOL = "2 to 20 capital letters and digits, as in BTCUSDT; left out: the configured one"
INTERVAL = "one of " + ", ".join(interval.value for interval in Interval) + "; left out: the configured one"


class SeriesQuery(BaseModel):
    model_config = ConfigDict(extra="forbid")
    symbol: Symbol | None = Field(None, description=SYMBOL)
    interval: Interval | None = Field(None, description=INTERVAL)


class ForecastsQuery(SeriesQuery):
    limit: int = Field(20, ge=1, le=200, description="a whole number from 1 to 200")


class ForecastPath(BaseModel):
    forecast_id: ForecastId = Field(description="as in Location after asking for it")


class ForecastAnswer(JobStatus):
    """A forecast on its way, or, when finished, the forecast; `labels` is what must not be overlooked about it."""

    labels: list[str] = Field(default_factory=list)
    forecast: Forecast | None = None


class LatestAnswer(ForecastAnswer):
    freshness: Freshness


class AskedAnswer(JobStatus):
    """A forecast that was asked for, and how it stands."""

    reused: bool = Field(
        description="whether it had been asked for before: on the same candle with the same wishes, of which a seed that "
        "is named is one; who names none gets whichever is there"
    )


class PanelMember(AskedAnswer):
    """One forecast of a panel."""

    symbol: Symbol
    address: str = Field(description="where to follow it, as Location is for a single forecast")


class PanelAnswer(Contract):
    """What a panel has become: forecasts of their own. There is no Location, since no address stands for all of them."""

    forecasts: list[PanelMember] = Field(description="in the order of the symbols")


class AcceptedAnswer(RootModel[AskedAnswer | PanelAnswer]):
    """A forecast on its way, or, where `symbols` were named, all of them."""


class ForecastsAnswer(Contract):
    forecasts: list[ForecastAnswer] = Field(description="newest first")


class SeriesAnswer(Contract):
    series: list[SeriesStatus]


def problems(*statuses: int) -> dict[Any, Any]:
    """The problem documents with which an endpoint may answer, and those that any may."""
    schema = {"$ref": f"#/components/schemas/{Problem.__name__}"}
    return {status: {"content": {MEDIA_TYPE: {"schema": schema}}} for status in (*statuses, 500, 503)}
