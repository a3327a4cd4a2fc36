"""The slow obvious way to sample, kept to hold the fast one to: the history repeated for each path, the whole window
run again at each step through the plain full-window form of the same modules, the whole window decoded per path.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from services.inference.context import Context
from services.inference.model.kronos import Kronos
from services.inference.model.tokenizer import KronosTokenizer
from services.inference.path_sampler import SampledPaths, SamplingOptions, draw_uniforms
from services.inference.token_choice import Choice, draw, next_token_distribution


@torch.inference_mode()
def sample_paths_slowly(
    model: Kronos, tokenizer: KronosTokenizer, context: Context, options: SamplingOptions, *, max_context: int
) -> SampledPaths:
    """The same answer as path_sampler.sample_paths, for the same arguments."""
    tokens, times = repeated_history(tokenizer, context, options.num_samples)
    uniforms = uniforms_for(options, context.horizon)
    for step in range(context.horizon):
        window = slice(max(0, tokens.shape[2] - max_context), tokens.shape[2])
        drawn = draw_step(model, tokens[:, :, window], times[:, window], uniforms[:, step], options.choice)
        tokens = torch.cat((tokens, drawn[..., None]), dim=2)
    candles = tokenizer.decode(*tokens[:, :, -max_context:])[:, -context.horizon :]
    s1, s2 = tokens[:, :, -context.horizon :].numpy()
    return SampledPaths(candles.numpy(), s1, s2, {})


def uniforms_for(options: SamplingOptions, horizon: int) -> Tensor:
    """float64 [num_samples, horizon, 2]."""
    return draw_uniforms(torch.Generator().manual_seed(options.seed), options.num_samples, horizon)


def repeated_history(tokenizer: KronosTokenizer, context: Context, paths: int) -> tuple[Tensor, Tensor]:
    """Tokens [2, paths, h] of the history, and the time features [1, h + horizon, 5] of history and horizon."""
    candles = torch.from_numpy(context.normalised)[None].repeat(paths, 1, 1)
    times = np.concatenate((context.past_time_features, context.future_time_features))
    return torch.stack(tokenizer.encode(candles)), torch.from_numpy(times)[None]


def draw_step(model: Kronos, tokens: Tensor, times: Tensor, uniforms: Tensor, choice: Choice) -> Tensor:
    """Run the whole window, tokens [2, paths, t] at times [1, t, 5], and draw what follows -> [2, paths]."""
    hidden = model.trunk(model.embed(tokens[0], tokens[1], times))
    s1 = _choose(model.s1_logits(hidden[:, -1]), uniforms[:, 0], choice)
    s2 = _choose(last_s2_logits(model, hidden, s1), uniforms[:, 1], choice)
    return torch.stack((s1, s2))


def last_s2_logits(model: Kronos, hidden: Tensor, s1: Tensor) -> Tensor:
    """Through the form that training uses: hidden [paths, t, d_model], s1 [paths] -> logits at the last position."""
    coarse = model.embedding.emb_s1(s1)[:, None].expand_as(hidden)
    return model.head.s2(model.dep_layer(hidden, coarse)[:, -1])


def _choose(logits: Tensor, uniforms: Tensor, choice: Choice) -> Tensor:
    return draw(next_token_distribution(logits, choice), uniforms)
