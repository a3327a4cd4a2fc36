"""Small, valid things to test with: klines, requests and finished forecasts."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray
from pydantic import SecretStr

from services.inference.baselines import state_baselines
from shared.forecast_queue import ForecastQueue, Wanted
from shared.forecasts import (
    Band,
    Forecast,
    ForecastOverrides,
    ForecastRequest,
    ModelIdentity,
    PathsInfo,
    Probability,
    Provenance,
    Sampling,
    StepStatistics,
    build_request,
)
from shared.klines import COLUMNS, Interval, KlineWindow, Origin
from shared.settings import RedisSettings, Settings, load_settings

START_MS = 1_735_689_600_000  # 2025-01-01 00:00 UTC


def kline_values(count: int, seed: int = 1) -> NDArray[np.float64]:
    """A random walk of consistent candles, (count, 6)."""
    rng = np.random.default_rng(seed)
    close = 50_000 * np.exp(np.cumsum(rng.normal(0, 0.004, count)))
    opened = np.concatenate([[50_000.0], close])[:count]
    high = np.maximum(opened, close) * (1 + rng.uniform(0, 0.002, count))
    low = np.minimum(opened, close) * (1 - rng.uniform(0, 0.002, count))
    volume = rng.lognormal(6, 0.5, count)
    return np.stack([opened, high, low, close, volume, volume * (opened + high + low + close) / 4], axis=1)


def kline_window(
    count: int = 400,
    *,
    symbol: str = "BTCUSDT",
    interval: Interval = Interval.H1,
    venue: str = "binance",
    origin: Origin = "live",
    start_ms: int = START_MS,
    seed: int = 1,
) -> KlineWindow:
    times = start_ms + interval.ms * np.arange(count, dtype=np.int64)
    return KlineWindow(symbol, interval, venue, origin, times, kline_values(count, seed))


def settings() -> Settings:
    """The settings as delivered."""
    return load_settings()


def redis_settings(url: str) -> RedisSettings:
    """As delivered, but for the address."""
    return settings().redis.model_copy(update={"url": SecretStr(url)})


def forecast_request(
    snapshot_id: str = "0" * 16, *, scheduled: bool = True, seed: int = 7, **wishes: object
) -> ForecastRequest:
    overrides = ForecastOverrides.model_validate(wishes)
    return build_request(settings(), overrides, snapshot_id, scheduled=scheduled, seed=seed)


def step_statistics(paths: NDArray[np.float64]) -> StepStatistics:
    """Statistics of (paths, horizon), good enough for whoever only shows or stores them."""
    return StepStatistics(
        mean=paths.mean(0).tolist(),
        median=np.median(paths, 0).tolist(),
        minimum=paths.min(0).tolist(),
        maximum=paths.max(0).tolist(),
        bands=[
            Band(
                level=level,
                kind="range" if level == 95 else "quantile",
                lower=np.quantile(paths, 0.5 - level / 200, axis=0).tolist(),
                upper=np.quantile(paths, 0.5 + level / 200, axis=0).tolist(),
            )
            for level in (50, 80, 95)
        ],
    )


def finished_forecast(
    forecast_id: str, window: KlineWindow, request: ForecastRequest, *, seed: int = 3
) -> tuple[Forecast, NDArray[np.float32]]:
    """A stored-looking forecast after `window`, and its paths (num_samples, horizon, 6)."""
    step = window.interval.ms
    paths = np.stack([kline_values(request.horizon, seed + i) for i in range(request.num_samples)]).astype(np.float32)
    paths[:, :, :4] *= window.last_close / 50_000
    share = Probability(value=0.4667, lower=0.302, upper=0.639, paths=14, of=30)
    forecast = Forecast(
        id=forecast_id,
        created_at=datetime.now(UTC),
        request=request,
        sampling=Sampling(
            temperature=0.6 if request.temperature == "auto" else request.temperature,
            top_p=0.9 if request.top_p == "auto" else request.top_p,
            top_k=request.top_k,
        ),
        provenance=Provenance(
            snapshot_id=request.snapshot_id,
            snapshot_sha256=window.content_hash(),
            venue=window.venue,
            origin=window.origin,
            model=ModelIdentity(
                name=request.model,
                source="local",
                revision=None,
                sha256="a" * 64,
                tokenizer_name="Kronos-Tokenizer-base",
                tokenizer_sha256="b" * 64,
                published=True,
            ),
            model_stands_in_for=None,
            model_stands_in_because=None,
            device="cpu",
            dtype="float32",
            threads=1,
            seed=request.seed,
            overflow="trim",
            max_context=512,
            history_used=request.history,
            code_version="0.1.0",
            timings_s={"load": 0.1, "decode": 1.0, "total": 1.2},
        ),
        last_open_time_ms=window.last_open_time_ms,
        last_close=window.last_close,
        open_times_ms=[window.last_close_time_ms + step * i for i in range(request.horizon)],
        close=step_statistics(paths[:, :, 3].astype(np.float64)),
        volume=step_statistics(paths[:, :, 4].astype(np.float64)),
        upside=share,
        volatility_amplification=share,
        returns_compared=24,
        defective_paths={"negative_volume": 1},
        paths=PathsInfo(shape=(request.num_samples, request.horizon, len(COLUMNS)), columns=list(COLUMNS)),
    )
    return forecast, paths


def with_baselines(forecast: Forecast, window: KlineWindow) -> tuple[Forecast, NDArray[np.float16]]:
    """The forecast with its baselines stated, and the draws that these speak of."""
    plain = state_baselines(window.values[:, 3], forecast.request.horizon, np.random.default_rng(forecast.request.seed))
    return forecast.model_copy(update={"baselines": list(plain.stated)}), plain.draws


def enqueue_together(queue: ForecastQueue, request: ForecastRequest, *forecast_ids: str) -> None:
    """The same request under each id, in one transaction, as a panel comes."""
    wanted = [Wanted(one, request, names_seed=True) for one in forecast_ids]
    queue.enqueue_many(wanted, is_of_use=lambda _: False, check=lambda *_: None)
