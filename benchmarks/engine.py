"""`python -m benchmarks.engine`: the shared-prefix sampler beside the slow oracle, in one run on the same modules.

Kronos-small and Kronos-Tokenizer-base with random weights: speed does not depend on what the weights are. The oracle's
steps grow with the window, so a few of them, spread evenly over the horizon, are timed and scaled to all of it.
"""

from __future__ import annotations

import argparse
import platform
from pathlib import Path
from time import perf_counter

import numpy as np
import torch

from services.inference.context import Context, prepare_context
from services.inference.model.config import KronosConfig, TokenizerConfig
from services.inference.model.kronos import Kronos
from services.inference.model.tokenizer import KronosTokenizer
from services.inference.path_sampler import SampledPaths, SamplingOptions, draw_uniforms, sample_paths
from tests.parity.oracle import draw_step, repeated_history

MAX_CONTEXT = 512
BITS = {"s1_bits": 10, "s2_bits": 10}
KRONOS_SMALL = KronosConfig(
    **BITS,
    n_layers=8,
    d_model=512,
    n_heads=8,
    ff_dim=1024,
    ffn_dropout_p=0.25,
    attn_dropout_p=0.1,
    resid_dropout_p=0.25,
    token_dropout_p=0.1,
    learn_te=True,
)
TOKENIZER_BASE = TokenizerConfig(
    **BITS,
    d_in=6,
    d_model=256,
    n_heads=4,
    ff_dim=512,
    n_enc_layers=4,
    n_dec_layers=4,
    ffn_dropout_p=0.0,
    attn_dropout_p=0.0,
    resid_dropout_p=0.0,
    beta=0.05,
    gamma0=1.0,
    gamma=1.1,
    zeta=0.05,
    group_size=4,
)


def main() -> None:
    asked = _arguments()
    torch.manual_seed(0)
    torch.set_num_threads(asked.threads or torch.get_num_threads())
    model, tokenizer = Kronos(KRONOS_SMALL).eval(), KronosTokenizer(TOKENIZER_BASE).eval()
    context = _walk(asked.history, asked.horizon)
    options = SamplingOptions(num_samples=asked.paths, temperature=0.6, top_k=0, top_p=0.9, seed=1)

    print(f"processor  {_processor()}")
    print(f"torch      {torch.__version__}, {torch.get_num_threads()} threads, float32 on the CPU")
    print(f"forecast   Kronos-small, history {asked.history}, {asked.horizon} steps, {asked.paths} paths")
    slow = _time_oracle(model, tokenizer, context, options, asked.oracle_steps)
    _time_sampler(model, tokenizer, context, options)  # both have run once before they are timed
    runs = sorted(
        (_time_sampler(model, tokenizer, context, options) for _ in range(asked.repeats)), key=lambda run: run[0]
    )
    fast, paths = runs[len(runs) // 2]
    phases = ", ".join(f"{phase} {seconds:.3f}" for phase, seconds in paths.seconds.items())
    print(f"oracle     {slow:8.2f} s   ({asked.oracle_steps} of {asked.horizon} steps timed, scaled to all)")
    print(f"sampler    {fast:8.2f} s   ({phases}; median of {', '.join(f'{seconds:.2f}' for seconds, _ in runs)})")
    print(f"ratio      {slow / fast:8.1f}")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="The shared-prefix sampler beside the slow oracle.")
    parser.add_argument("--history", type=int, default=360)
    parser.add_argument("--horizon", type=int, default=24)
    parser.add_argument("--paths", type=int, default=30)
    parser.add_argument("--oracle-steps", type=int, default=3, help="how many of the oracle's steps are timed")
    parser.add_argument("--repeats", type=int, default=3, help="how often the sampler is timed; the median counts")
    parser.add_argument("--threads", type=int, default=0, help="0 is what torch chooses")
    return parser.parse_args()


def _walk(history: int, horizon: int) -> Context:
    """A random walk of hourly candles."""
    rng = np.random.default_rng(0)
    close = 60_000 * np.exp(np.cumsum(rng.normal(0, 0.005, history)))
    volume = rng.gamma(2, 500, history)
    klines = np.stack((close, close * 1.002, close * 0.998, close, volume, volume * close), axis=1)
    times = 1_735_689_600_000 + 3_600_000 * np.arange(history)
    return prepare_context(
        klines, times, interval_ms=3_600_000, horizon=horizon, max_context=MAX_CONTEXT, overflow="slide"
    )


@torch.inference_mode()
def _time_oracle(
    model: Kronos, tokenizer: KronosTokenizer, context: Context, options: SamplingOptions, steps: int
) -> float:
    """Seconds for the whole horizon, from `steps` timed steps in the middle of as many equal parts of it."""
    started = perf_counter()
    tokens, times = repeated_history(tokenizer, context, options.num_samples)
    around = perf_counter() - started
    uniforms = draw_uniforms(options, context.horizon)
    tokens = torch.cat((tokens, tokens[:, :, : context.horizon]), dim=2)
    timed = [int((part + 0.5) * context.horizon / steps) for part in range(steps)]

    def run(step: int) -> None:
        window = slice(max(0, context.history_used + step - MAX_CONTEXT), context.history_used + step)
        draw_step(model, tokens[:, :, window], times[:, window], uniforms[:, step], options)

    run(timed[0])  # as the sampler, it has run once before it is timed
    started = perf_counter()
    for step in timed:
        run(step)
    stepping = (perf_counter() - started) / steps * context.horizon
    started = perf_counter()
    tokenizer.decode(tokens[0, :, -MAX_CONTEXT:], tokens[1, :, -MAX_CONTEXT:])
    return around + stepping + perf_counter() - started


def _time_sampler(
    model: Kronos, tokenizer: KronosTokenizer, context: Context, options: SamplingOptions
) -> tuple[float, SampledPaths]:
    started = perf_counter()
    paths = sample_paths(model, tokenizer, context, options, max_context=MAX_CONTEXT)
    return perf_counter() - started, paths


def _processor() -> str:
    listed = Path("/proc/cpuinfo")
    lines = listed.read_text(encoding="utf-8").splitlines() if listed.exists() else []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, "") or platform.processor() or platform.machine()


if __name__ == "__main__":
    main()
