"""Forecasts as they cross the queue, Redis and the API: what is asked for, what came out, and where it came from.

Plain values only (JSON on every border). How a forecast is made, stored or drawn is for other rooms.
"""

from __future__ import annotations

import hashlib
import re
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal, cast
from uuid import uuid4

from pydantic import BeforeValidator, Field, WithJsonSchema, model_validator
from pydantic_core import PydanticCustomError

from shared.calibration import SeriesCalibration
from shared.contract import Contract
from shared.klines import ORIGINS, Interval, Origin
from shared.settings import (
    SHORTEST_HISTORY,
    TEMPERATURE_IN_WORDS,
    TOP_P_IN_WORDS,
    Lane,
    ModelName,
    Overflow,
    Settings,
    Symbol,
    Temperature,
    TopP,
)

SEED_LIMIT = 2**63 - 1
LARGEST_PANEL = 64  # symbols that one request may name
LONGEST_HORIZON = 448  # candles: what the published models have room for beside the shortest history

# In the order in which they are shown.
BASELINE_NAMES = {
    "last_price": "last price",
    "random_walk": "random walk, std of the history",
    "random_walk_ewma": "random walk, EWMA(0.97)",
    "bootstrap": "bootstrap of the history",
    "bootstrap_ewma": "bootstrap scaled to EWMA",
    "garch": "GARCH(1,1)",
}

# The state of a forecast on its way. failed and cancelled: why there is none is in `error`.
JobState = Literal["queued", "running", "finished", "failed", "cancelled"]
# Where a model's weights came from. bundled: the small one that the repository carries.
ModelSource = Literal["local", "hub", "bundled"]


MOMENT = "UTC milliseconds, or ISO 8601 with its offset from UTC, as in 2025-01-01T00:00:00Z or 2025-01-01 01:00+01:00"
EPOCH, MILLISECOND = datetime(1970, 1, 1, tzinfo=UTC), timedelta(milliseconds=1)


def _in_milliseconds(moment: object) -> object:
    """ISO 8601 as UTC ms; all else as it came. A time that names no offset is refused, since it may be any zone's."""
    if not isinstance(moment, str):
        return moment
    try:
        at = datetime.fromisoformat(moment)
    except ValueError:
        raise PydanticCustomError("moment", "is no moment that can be read") from None
    if at.tzinfo is None:
        raise PydanticCustomError("moment", "names no offset from UTC")
    milliseconds, rest = divmod(at - EPOCH, MILLISECOND)
    if rest:
        raise PydanticCustomError("moment", "is no whole number of milliseconds")
    return milliseconds


Moment = Annotated[
    int,
    BeforeValidator(_in_milliseconds),
    Field(ge=0, lt=10**14, description=MOMENT),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "integer", "minimum": 0, "exclusiveMaximum": 10**14},
                {"type": "string", "format": "date-time"},
            ],
            "description": MOMENT,
        }
    ),
]


class Candle(Contract):
    """One closed candle that a person sends along."""

    open_time: Moment
    open: float
    high: float
    low: float
    close: float
    volume: float
    amount: float | None = Field(
        default=None, description="volume in the quote currency; left out: volume times the mean of the four prices"
    )


class Wishes(Contract):
    """How a person wants a forecast to be made, whatever it is of. What is left out is as configured."""

    interval: Interval | None = None
    horizon: int | None = Field(
        None, ge=1, le=LONGEST_HORIZON, description=f"a whole number of candles from 1 to {LONGEST_HORIZON}"
    )
    history: int | None = Field(
        None,
        ge=SHORTEST_HISTORY,
        description=f"a whole number of candles from {SHORTEST_HISTORY} to limits.max_history",
    )
    num_samples: int | None = Field(None, ge=1, description="a whole number of paths from 1 to limits.max_num_samples")
    temperature: Temperature | None = Field(None, description=TEMPERATURE_IN_WORDS)
    top_p: TopP | None = Field(None, description=TOP_P_IN_WORDS)
    top_k: int | None = Field(None, ge=0, le=1 << 20, description="a whole number from 0 (no limit) to 1048576")
    seed: int | None = Field(None, ge=0, le=SEED_LIMIT, description=f"a whole number from 0 to {SEED_LIMIT}")
    model: ModelName | None = None
    target_error: float | None = Field(
        None,
        ge=0,
        lt=0.5,
        description="a number from 0 (off) to below 0.5: paths are drawn until the 95 % Wilson interval of the upside "
        "probability reaches no further than this to either side",
    )


class ForecastOverrides(Wishes):
    """What a person may ask for. All of it is optional: what is left out is as configured."""

    symbol: Symbol | None = Field(None, description="2 to 20 capital letters and digits, as in BTCUSDT")
    symbols: tuple[Symbol, ...] | None = Field(
        None,
        min_length=2,
        max_length=LARGEST_PANEL,
        description=f"a list of 2 to {LARGEST_PANEL} different symbols in place of symbol: a panel, of which each becomes "
        f"a forecast of its own",
        json_schema_extra={"uniqueItems": True},
    )
    klines: tuple[Candle, ...] | None = Field(
        default=None,
        description=f"a list of {SHORTEST_HISTORY} to limits.max_history closed candles without a gap, oldest first, in place "
        f"of symbol",
    )

    @model_validator(mode="after")
    def _one_symbol_or_different_ones(self) -> ForecastOverrides:
        if self.klines is not None and (self.symbol or self.symbols):
            beside = "symbol" if self.symbol else "symbols"
            raise ValueError(f"klines is given beside {beside}, but allowed is one of the two.")
        if self.symbols is None:
            return self
        if self.symbol is not None:
            raise ValueError(f"symbols is given beside symbol ({self.symbol}), but allowed is one of the two.")
        if twice := [symbol for symbol in self.symbols if self.symbols.count(symbol) > 1]:
            raise ValueError(f"symbols names {twice[0]} twice, but allowed are different symbols.")
        return self

    def each(self) -> list[ForecastOverrides]:
        """The wishes for each forecast that is asked for: one of each symbol, or just this one."""
        if self.symbols is None:
            return [self]
        return [self.model_copy(update={"symbol": symbol, "symbols": None}) for symbol in self.symbols]


class ForecastRequest(Contract):
    """A forecast fully spelled out, on one snapshot: the same request and snapshot give the same paths on one device.

    `model_is_default` tells whether the configuration chose the model: only then may the bundled one stand in for it.
    """

    symbol: Symbol
    interval: Interval
    horizon: int = Field(ge=1)
    history: int = Field(ge=SHORTEST_HISTORY)
    num_samples: int = Field(ge=1)
    temperature: Temperature
    top_p: TopP
    top_k: int = Field(ge=0)
    target_error: float = Field(0.0, ge=0, lt=0.5)
    seed: int = Field(ge=0, le=SEED_LIMIT)
    model: ModelName
    model_is_default: bool
    volatility_window: int = Field(ge=2)
    snapshot_id: str = Field(description="empty while the klines are still to be fetched")
    scheduled: bool
    fetched_by: str | None = Field(
        None, description="the fetch that brings its klines, where the series was not ingested when this was asked for"
    )


class Probability(Contract):
    """A share of paths, with the 95 % Wilson interval of its Monte-Carlo error."""

    value: float
    lower: float
    upper: float
    paths: int = Field(description="paths in which it happened")
    of: int = Field(description="paths counted")


class Band(Contract):
    """Per step, the range that should hold the outcome with probability `level` percent.

    kind `range`: the paths are too few for that quantile, and the band is their minimum and maximum.
    """

    level: int = Field(description="percent: 50, 80 or 95")
    kind: Literal["quantile", "range"]
    lower: list[float]
    upper: list[float]


class QuantileLine(Contract):
    """Per step, what the outcome should stay below with probability `quantile`.

    kind `range`: the paths are too few for that quantile, and the line is their minimum or maximum.
    """

    quantile: float
    kind: Literal["quantile", "range"]
    values: list[float]


def band_name(band: Band) -> str:
    """What a band is called wherever it is shown: of too few paths, it is only their range."""
    return "range of the paths" if band.kind == "range" else f"{band.level} % band"


class StepStatistics(Contract):
    """One column's paths, summarised at each step of the horizon; every list is (horizon,)."""

    mean: list[float]
    median: list[float]
    minimum: list[float]
    maximum: list[float]
    bands: list[Band]


class ModelIdentity(Contract):
    """Exactly which weights were used."""

    name: str
    source: ModelSource
    revision: str | None = Field(description="the hub's revision; none for local and bundled files")
    sha256: str
    tokenizer_name: str
    tokenizer_sha256: str
    published: bool = Field(description="whether both files are, byte for byte, the published ones")
    trained_until_ms: int | None = Field(
        default=None, description="the first moment that it has not been trained or chosen on, by its card; UTC ms"
    )


class Provenance(Contract):
    """Everything needed to say where a forecast came from, and to make it again."""

    snapshot_id: str
    snapshot_sha256: str
    venue: str
    origin: Origin
    model: ModelIdentity
    model_stands_in_for: str | None = Field(description="the configured model that could not be had, if any")
    model_stands_in_because: str | None = Field(description="why it could not be had")
    device: str
    dtype: str = Field(description="what the model's products were computed in: float32, bfloat16 or int8")
    kernels: str = Field(
        "torch", description="what computed between the products, and on a processor those: torch or native"
    )
    side_by_side: int = Field(1, description="forecasts drawn together; the timings are those of all of them")
    threads: int
    seed: int
    overflow: Overflow
    max_context: int = Field(description="candles, history and horizon together, that the model reads at once")
    history_used: int
    code_version: str
    timings_s: dict[str, float] = Field(description="seconds by phase, and 'total'")


class Baseline(Contract):
    """A plain forecast of the close, stated when the forecast was made: a spread, or a scale for the stored draws.

    Names are those of BASELINE_NAMES.
    """

    name: str
    sigma: list[float] | None = Field(
        default=None, description="std of the log close about the last one at each step, for normal ones; (horizon,)"
    )
    scale: float | None = Field(
        default=None, description="what the stored draws of log closes are multiplied by, for bootstraps"
    )


class Recalibrated(Contract):
    """What a forecast becomes by what its scored forerunners taught; the raw one stays beside it."""

    bands: list[Band] = Field(description="of the close; (horizon,)")
    upside: float | None
    volatility_amplification: float | None
    learned: SeriesCalibration


class PathsInfo(Contract):
    """How the binary beside the record is laid out: little-endian float32, C order, zlib-compressed."""

    shape: tuple[int, int, int] = Field(description="paths, horizon, columns")
    columns: list[str]


class Sampling(Contract):
    """How the paths were drawn: what was asked for, with the card's words in place of auto."""

    temperature: float
    top_p: float
    top_k: int


class Forecast(Contract):
    """One finished forecast, without its paths."""

    id: str
    created_at: datetime
    request: ForecastRequest
    sampling: Sampling
    provenance: Provenance
    last_open_time_ms: int = Field(description="open time of the last known candle, UTC ms")
    last_close: float
    open_times_ms: list[int] = Field(description="open times of the forecast candles, UTC ms; (horizon,)")
    close: StepStatistics
    volume: StepStatistics
    upside: Probability
    volatility_amplification: Probability | None = Field(
        description="none for a horizon of one step, which has no spread"
    )
    returns_compared: int = Field(description="log returns on either side of the volatility comparison")
    defective_paths: dict[str, int] = Field(description="paths that break reality, by kind; they are kept as drawn")
    paths: PathsInfo
    baselines: list[Baseline] = Field(
        default_factory=list, description="plain forecasts from the same snapshot, made before anything was known"
    )
    recalibrated: Recalibrated | None = Field(
        default=None, description="none where too few forecasts of its kind were scored before, or calibration is off"
    )

    @model_validator(mode="before")
    @classmethod
    def _sampled_as_asked(cls, stored: Any) -> Any:
        """Records of before there was auto do not say how they were sampled: as was asked."""
        if not isinstance(stored, dict) or "sampling" in stored or not isinstance(stored.get("request"), dict):
            return stored
        return {**stored, "sampling": {name: stored["request"].get(name) for name in Sampling.model_fields}}


def why_no_amplification(forecast: Forecast) -> str:
    """What stands in place of a volatility amplification that there is not."""
    return "needs two steps" if forecast.returns_compared < 2 else "no path has only positive closes"


class Progress(Contract):
    """How far a forecast is: `done` of `total` steps of `phase`. One that waits for its klines is at none of one step."""

    phase: str
    done: int
    total: int


class JobStatus(Contract):
    """A forecast on its way through the queue."""

    id: str
    state: JobState
    position: int | None = Field(
        default=None,
        description="jobs before it in the queue, while queued; none while its klines are still to be fetched",
    )
    progress: Progress | None = Field(
        default=None,
        description="while running; while queued only where it waits for klines: the phase is then waiting for ingest or "
        "fetching klines",
    )
    error: str | None = Field(default=None, description="why there is no forecast, where it failed or was cancelled")
    enqueued_at: datetime | None = None
    tries: int = 0
    lane: Lane = Field(
        default="light", description="of the queue: heavy for models that are kept for workers which serve them"
    )


def build_request(
    settings: Settings, overrides: ForecastOverrides, snapshot_id: str, *, scheduled: bool, seed: int
) -> ForecastRequest:
    """The configured forecast with a person's wishes laid over it; `seed` holds where they named none.

    One forecast has one symbol: a panel's wishes come here by `ForecastOverrides.each`.
    """
    wish = overrides.model_dump(exclude_none=True, exclude={"klines"})
    configured = {
        "symbol": settings.data.symbol,
        "interval": settings.data.interval,
        "horizon": settings.data.forecast_horizon,
        "history": settings.data.history_window,
        "num_samples": settings.sampling.num_samples,
        "temperature": settings.sampling.temperature,
        "top_p": settings.sampling.top_p,
        "top_k": settings.sampling.top_k,
        "target_error": settings.sampling.target_error,
        "seed": seed,
        "model": settings.model.model_name,
    }
    return ForecastRequest.model_validate(
        {
            **configured,
            **wish,
            "model_is_default": overrides.model is None,
            "volatility_window": settings.data.volatility_window,
            "snapshot_id": snapshot_id,
            "scheduled": scheduled,
        }
    )


def scheduled_forecast_id(symbol: str, interval: Interval, last_open_time_ms: int, origin: Origin) -> str:
    """The id of the one scheduled forecast that follows a candle: the same whoever asks for it.

    Made-up and recorded klines have ids of their own, so that they never stand where a live forecast belongs.
    """
    candle = datetime.fromtimestamp(last_open_time_ms / 1000, UTC)
    kind = "" if origin == "live" else f"-{origin}"
    return f"{symbol}-{interval}-{candle:%Y%m%dT%H%M%SZ}{kind}"


def series_of_scheduled(forecast_id: str) -> tuple[str, Interval, Origin] | None:
    """Symbol, interval and origin that the id of a scheduled forecast tells; None where it is no such id."""
    found = re.fullmatch(r"([A-Z0-9]+)-([0-9]+[mhd])-[0-9]{8}T[0-9]{6}Z(?:-([a-z]+))?", forecast_id)
    if not found or found[2] not in {one.value for one in Interval} or (found[3] or "live") not in ORIGINS:
        return None
    return found[1], Interval(found[2]), cast("Origin", found[3] or "live")


def seed_of(forecast_id: str) -> int:
    """The seed of a scheduled forecast or of one in a backtest: 63 bits of its id's sha256, so that making it again gives the
    same paths.
    """
    return int.from_bytes(hashlib.sha256(forecast_id.encode()).digest()[:8], "big") & SEED_LIMIT


def forecaster_of(forecast: Forecast) -> str:
    """Whose forecasts can be scored and learned from together: those of the same weights, horizon, sampling, history and
    paths, and where the context overflows of the same way to deal with it. float32 and bfloat16 are one, since their forecasts
    are the same to within sampling error and `auto` chooses by machine; int8 is another.
    """
    asked, made_by, drawn = forecast.request, forecast.provenance, forecast.sampling
    model, sampling = made_by.model, f"{drawn.temperature:g}|{drawn.top_p:g}|{drawn.top_k}"
    first = _named(f"{model.sha256}|{model.tokenizer_sha256}|{asked.horizon}|{sampling}")
    paths = f"{asked.num_samples}" + (f" until {asked.target_error:g}" if asked.target_error else "")
    more = ["int8"] if made_by.dtype == "int8" else []
    if asked.history + asked.horizon > made_by.max_context:
        more.append(f"{made_by.overflow} at {made_by.max_context}")
    return completed_forecaster(first, asked.history, paths, *more)


def completed_forecaster(first: str, history: int, paths: str, *more: str) -> str:
    """Of one that names weights, horizon and sampling alone, as all did before; `more` is what is not as usual."""
    return _named("|".join([first, str(history), paths, *more]))


def _named(what: str) -> str:
    return hashlib.sha256(what.encode()).hexdigest()[:16]


def adhoc_forecast_id() -> str:
    """A new id for a forecast that a person asked for."""
    return f"adhoc-{uuid4().hex[:16]}"


FORECAST_ID = "^[A-Za-z0-9_-]{1,80}$"
ForecastId = Annotated[str, Field(pattern=FORECAST_ID)]
