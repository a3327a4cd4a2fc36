"""A checkpoint as a forecaster: through the very context and sampler that serve forecasts."""

from __future__ import annotations

from collections.abc import Callable

from services.inference.context import prepare_context
from services.inference.engine import Engine
from services.inference.evaluation.backtest import CLOSE, Origin
from services.inference.path_sampler import SamplingOptions, sample_paths
from services.inference.scoring.distributions import Ensemble


def model_forecaster(
    engine: Engine,
    *,
    paths: int,
    temperature: float,
    top_k: int,
    top_p: float,
    seed: int,
) -> Callable[[Origin], Ensemble]:
    """The same seed, checkpoint and origins give the same paths. Reads one candle fewer than the baselines' closes."""

    def forecast(origin: Origin) -> Ensemble:
        times = origin.known_times_ms[1:]
        context = prepare_context(
            origin.known[1:],
            times,
            interval_ms=int(times[-1] - times[-2]),
            horizon=len(origin.ahead),
            max_context=engine.max_context,
            overflow="trim",
        )
        options = SamplingOptions(paths, temperature, top_k, top_p, seed * 1_000_003 + origin.number)
        sampled = sample_paths(engine, context, options)
        return Ensemble(context.denormalise(sampled.normalised)[:, :, CLOSE])

    return forecast
