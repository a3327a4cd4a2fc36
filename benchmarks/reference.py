"""How long the slow obvious way takes for the same forecast: the oracle that the tests hold the sampler to.

It repeats the history once per path and runs the whole window again at each step, with torch's own attention and the same
threads. Its steps grow with the window, so a few of them, spread evenly over the horizon, are timed and scaled to all.
"""

from __future__ import annotations

from time import perf_counter

import torch

from services.inference.context import Context
from services.inference.model.kronos import Kronos
from services.inference.model.tokenizer import KronosTokenizer
from services.inference.path_sampler import SamplingOptions
from tests.parity.oracle import draw_step, repeated_history, uniforms_for


@torch.inference_mode()
def reference_seconds(
    model: Kronos,
    tokenizer: KronosTokenizer,
    context: Context,
    options: SamplingOptions,
    *,
    max_context: int,
    timed_steps: int,
) -> float:
    """Of the whole forecast, in float32."""
    started = perf_counter()
    tokens, times = repeated_history(tokenizer, context, options.num_samples)
    encoding = perf_counter() - started
    uniforms = uniforms_for(options, context.horizon)
    tokens = torch.cat((tokens, tokens[:, :, -1:].expand(-1, -1, context.horizon)), dim=2)
    timed = [int((part + 0.5) * context.horizon / timed_steps) for part in range(timed_steps)]

    def run(step: int) -> None:
        window = slice(max(0, context.history_used + step - max_context), context.history_used + step)
        draw_step(model, tokens[:, :, window], times[:, window], uniforms[:, step], options.choice)

    run(timed[0])  # as the sampler, it has run once before it is timed
    started = perf_counter()
    for step in timed:
        run(step)
    stepping = (perf_counter() - started) / timed_steps * context.horizon
    started = perf_counter()
    tokenizer.decode(tokens[0, :, -max_context:], tokens[1, :, -max_context:])
    return encoding + stepping + perf_counter() - started
