"""What the API is asked and answers, as pydantic models: the API description is made of them."""

from __future__ import annotations

from fractions import Fraction
from functools import cache
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, RootModel

from services.web.problems import MEDIA_TYPE, Problem
from services.web.situation import Freshness
from shared.contract import Contract
from shared.failed_jobs import FailedJob
from shared.forecasts import (
    LONGEST_HORIZON,
    Band,
    Forecast,
    ForecastId,
    JobStatus,
    Probability,
    QuantileLine,
    Wishes,
)
from shared.kline_store import SeriesStatus
from shared.klines import Interval
from shared.ledger import LedgerEntry, ShownBook
from shared.outcome import Outcome
from shared.queue_overview import LoadedModel, QueueStatus, WorkerStatus
from shared.series_record import SeriesRecord
from shared.settings import ModelName, Symbol

WRITE_TOKEN = "write_token"  # noqa: S105 - the security scheme's name in the API description
SYMBOL = "2 to 20 capital letters and digits, as in BTCUSDT; left out: the configured one"
QUANTILES = r"^0?\.[0-9]{0,5}[1-9]0{0,5}(,0?\.[0-9]{0,5}[1-9]0{0,5}){0,31}$"
QUANTILES_IN_WORDS = "up to 32 numbers above 0 and below 1, comma-separated, as in 0.1,0.5,0.9"
ORIGIN = "one of live, recorded, simulated, backtest; left out: what the series is made of now"
INTERVAL = "one of " + ", ".join(interval.value for interval in Interval) + "; left out: the configured one"


class Query(BaseModel):
    """Parameters of an address: closed to unknown names."""

    model_config = ConfigDict(extra="forbid")

    @classmethod
    def model_json_schema(cls, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """flask-openapi3 asks for the plain one at every request, which is half of what the latest forecast costs."""
        return super().model_json_schema(*args, **kwargs) if args or kwargs else _plain_schema(cls)


@cache
def _plain_schema(query: type[Query]) -> dict[str, Any]:
    return query.model_json_schema(by_alias=True)


class SeriesQuery(Query):
    symbol: Symbol | None = Field(None, description=SYMBOL)
    interval: Interval | None = Field(None, description=INTERVAL)


class ForecastsQuery(SeriesQuery):
    limit: int = Field(20, ge=1, le=200, description="a whole number from 1 to 200")
    cursor: str | None = Field(
        None,
        max_length=600,
        pattern=r"^[A-Za-z0-9_=-]+$",
        description="where the next page begins, from `next` of this one",
    )


class AskingQuery(Wishes):
    """What is wished beside a body of text/csv. Names that are none of these are refused where wishes are read."""

    model_config = ConfigDict(extra="allow")


class ForecastPath(BaseModel):
    forecast_id: ForecastId = Field(description="as in Location after asking for it")


class QuantilesQuery(Query):
    """Quantiles and bands beyond those that a forecast has: computed from its paths by the same rule (Weibull)."""

    quantiles: str | None = Field(
        None,
        max_length=400,
        pattern=QUANTILES,
        description=QUANTILES_IN_WORDS,
    )
    levels: str | None = Field(
        None,
        max_length=400,
        pattern=r"^[1-9][0-9]?(,[1-9][0-9]?){0,31}$",
        description="up to 32 whole numbers from 1 to 99, percent of a central band, comma-separated, as in 50,80,95",
    )

    def fractions(self) -> list[Fraction]:
        return [Fraction(part) for part in (self.quantiles or "").split(",") if part]

    def percents(self) -> list[int]:
        return [int(part) for part in (self.levels or "").split(",") if part]


class LatestQuery(SeriesQuery, QuantilesQuery):
    pass


class ProbabilityQuery(Query):
    model_config = ConfigDict(allow_inf_nan=False)
    above: float | None = Field(None, description="a price: the close lies above it")
    below: float | None = Field(None, description="a price: the close lies below it")
    touch: float | None = Field(None, description="a price: it is reached at any step up to `step`")
    low: float | None = Field(None, description="a price, with `high`: the close lies from low to high")
    high: float | None = Field(None, description="a price, with `low`: the close lies from low to high")
    return_above: float | None = Field(
        None, description="a share as in 0.02: the close lies further above the last known"
    )
    return_below: float | None = Field(
        None, description="a share as in -0.02: the close lies further below the last known"
    )
    step: int | None = Field(
        None, ge=1, le=LONGEST_HORIZON, description="a whole number of steps from 1 to the horizon; left out: the last"
    )


class ComputedQuantiles(Contract):
    """By column; empty where not asked for."""

    paths: int = Field(description="paths that were counted")
    quantiles: dict[str, list[QuantileLine]]
    bands: dict[str, list[Band]]


class QuantileRowsQuery(Query):
    quantiles: str = Field(
        "0.025,0.1,0.25,0.5,0.75,0.9,0.975",
        max_length=400,
        pattern=QUANTILES,
        description=f"{QUANTILES_IN_WORDS}; left out: those of the 50, 80 and 95 % bands and the median",
    )


class OnePath(ForecastPath):
    number: int = Field(ge=0, le=99_999, description="which path, counted from 0")


class PathsAnswer(Contract):
    id: str
    labels: list[str]
    columns: list[str]
    open_times_ms: list[int]
    paths: list[list[list[float | None]]] = Field(description="[paths][horizon][columns]; null is not finite")


class SinglePathAnswer(Contract):
    id: str
    labels: list[str]
    path: int
    columns: list[str]
    open_times_ms: list[int]
    values: list[list[float | None]] = Field(description="[horizon][columns]; null is not finite")


class OutcomeAnswer(Outcome):
    """What has followed a forecast: one forecast, no track record."""

    labels: list[str] = Field(description="what must not be overlooked about the forecast, and so about this")
    missing_because: str | None = Field(description="where fewer are kept than have closed: why")
    previous: str | None = Field(
        description="the id of the forecast before it: of the schedule's by candle, of those that people asked for by time"
    )
    next: str | None = Field(description="the id of the forecast after it")


class ForecastAnswer(JobStatus):
    """A forecast on its way, or, when finished, the forecast; `labels` is what must not be overlooked about it."""

    labels: list[str] = Field(default_factory=list)
    forecast: Forecast | None = None
    computed: ComputedQuantiles | None = Field(None, description="what quantiles= and levels= have asked for")


class ProbabilityAnswer(Contract):
    """How often an event happens in a forecast's paths."""

    id: str
    labels: list[str] = Field(description="what must not be overlooked about the forecast")
    event: str = Field(description="what was counted, in words")
    step: int = Field(description="the step that was looked at, or, for touch, up to which; from 1")
    open_time_ms: int = Field(description="open time of that step's candle, UTC ms")
    last_close: float
    probability: Probability


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
    next: str | None = Field(description="the address of the next page; none where this is the last")


class SeriesAnswer(Contract):
    series: list[SeriesStatus]


class WorkersAnswer(Contract):
    workers: list[WorkerStatus] = Field(description="those whose registration is alive, by name")
    ingests: list[WorkerStatus] = Field(
        description="those that fetch klines which nobody keeps up, by name; `jobs` is what each fetches"
    )


class FailedQuery(Query):
    limit: int = Field(100, ge=1, le=1000, description="a whole number from 1 to 1000, the newest so many")


class FailedAnswer(Contract):
    failed: list[FailedJob] = Field(
        description="what is not tried again, the newest first, for as long as queue.failure_ttl keeps it"
    )


class TrackRecordQuery(SeriesQuery):
    origin: ShownBook | None = Field(None, description=ORIGIN)
    forecaster: str | None = Field(
        None,
        pattern="^[0-9a-f]{16}$",
        description="16 hexadecimal digits, as in `forecasters`; left out: that of the newest forecast",
    )


class LedgerQuery(SeriesQuery):
    origin: ShownBook | None = Field(None, description=ORIGIN)
    from_ms: int = Field(0, ge=0, lt=10**14, description="last known candles that opened from then on, UTC ms")
    until_ms: int | None = Field(None, ge=0, lt=10**14, description="and before then, UTC ms; left out: all since")
    limit: int | None = Field(
        None, ge=1, le=10**6, description="a whole number from 1 to 1000000, the newest so many; left out: all"
    )


class LedgerPageQuery(LedgerQuery):
    limit: int = Field(100, ge=1, le=1000, description="a whole number from 1 to 1000")


class LedgerAnswer(Contract):
    """Entries, newest first: at least as many as asked for, where there are, since those of one candle stay together."""

    entries: list[LedgerEntry]
    next: str | None = Field(description="where the next page is; none on the last one")


class TrackRecordAnswer(SeriesRecord):
    """What the ledger of one series and origin says together."""


class QueueAnswer(QueueStatus):
    """How it stands with the queue."""

    most: int = Field(description="waiting forecasts from which on new requests are turned away (limits.max_queued)")
    workers: int = Field(description="that gave a sign of life in the last minute")
    ingests: int = Field(description="those that would fetch klines which nobody ingests")


class NameableModel(Contract):
    """A model that a request may name."""

    name: ModelName
    configured: bool = Field(description="whether it is asked for where a request names none")
    loaded_by: list[str] = Field(description="workers that hold it; any other loads it when it is first asked for")


class ModelsAnswer(Contract):
    models: list[NameableModel]
    loaded: list[LoadedModel] = Field(description="what the workers have loaded, each kind once")


def problems(*statuses: int) -> dict[Any, Any]:
    """The problem documents with which an endpoint may answer, and those that any may."""
    schema = {"$ref": f"#/components/schemas/{Problem.__name__}"}
    return {status: {"content": {MEDIA_TYPE: {"schema": schema}}} for status in (*statuses, 429, 500, 503)}
