from __future__ import annotations

import numpy as np
import pytest
import torch

from services.inference import path_sampler
from services.inference.engine import FLOAT32, pack
from services.inference.path_sampler import PHASES, SampledPaths, draw_uniforms, sample_paths
from services.inference.token_choice import NonFiniteLogitsError
from tests.parity.oracle import sample_paths_slowly
from tests.unit.inference.tiny import options, random_context, sample, tiny_engine, tiny_kronos, tiny_tokenizer

WITHIN = (100, 12, 512)
# history, horizon, max_context: within; the window fills on the way; history alone is longer; no history is left in
# the window; the horizon fills the window alone.
SITUATIONS = [WITHIN, (60, 24, 64), (90, 12, 64), (70, 40, 32), (40, 32, 32), (10, 1, 512), (32, 1, 32)]


def _assert_same(ours: SampledPaths, theirs: SampledPaths) -> None:
    np.testing.assert_array_equal(ours.s1, theirs.s1)
    np.testing.assert_array_equal(ours.s2, theirs.s2)
    np.testing.assert_allclose(ours.normalised, theirs.normalised, atol=5e-6, rtol=0)


@pytest.mark.parametrize(("history", "horizon", "max_context"), [s for s in SITUATIONS if s[1] <= s[2]])
def test_shared_prefix_sampling_equals_the_oracle(history: int, horizon: int, max_context: int) -> None:
    context = random_context(history, horizon, max_context)
    model, tokenizer = tiny_kronos(), tiny_tokenizer()
    fast = sample_paths(pack(model, tokenizer, FLOAT32, max_context), context, options())
    slow = sample_paths_slowly(model, tokenizer, context, options(), max_context=max_context)
    assert fast.normalised.shape == (6, horizon, 6)
    assert len(np.unique(fast.s1, axis=0)) > 1
    _assert_same(fast, slow)


def test_the_same_seed_gives_the_same_paths_whatever_ran_before() -> None:
    context = random_context(*WITHIN)
    first = sample(context, options())
    torch.manual_seed(99)
    torch.rand(1000)
    sample(random_context(70, 5, 512), options(paths=3, seed=4))
    again = sample(context, options())
    np.testing.assert_array_equal(first.normalised, again.normalised)


def test_sampling_leaves_the_global_generator_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    context = random_context(*WITHIN)
    engine = tiny_engine()
    torch.manual_seed(5)
    sample_paths(engine, context, options())
    assert torch.equal(torch.rand(3), expected)


def test_another_seed_gives_other_paths() -> None:
    context = random_context(*WITHIN)
    assert not np.array_equal(sample(context, options(seed=1)).s1, sample(context, options(seed=2)).s1)


def test_a_path_does_not_depend_on_how_many_are_drawn_beside_it() -> None:
    context = random_context(*WITHIN)
    many, few = sample(context, options(paths=20)), sample(context, options(paths=3))
    np.testing.assert_array_equal(many.s1[:3], few.s1)
    np.testing.assert_allclose(many.normalised[:3], few.normalised, atol=5e-6, rtol=0)
    at_once, generator = draw_uniforms(torch.Generator().manual_seed(1), 20, 12), torch.Generator().manual_seed(1)
    assert torch.equal(at_once, torch.cat([draw_uniforms(generator, paths, 12) for paths in (3, 1, 16)]))


@pytest.mark.parametrize(("history", "horizon", "max_context"), [WITHIN, (60, 24, 64)])
def test_paths_sampled_in_groups_equal_those_sampled_at_once(
    monkeypatch: pytest.MonkeyPatch, history: int, horizon: int, max_context: int
) -> None:
    context = random_context(history, horizon, max_context)
    at_once = sample(context, options(paths=7), max_context)
    monkeypatch.setattr(path_sampler, "BYTES_AT_ONCE", {"cpu": 2**17})
    steps: list[tuple[int, int]] = []
    grouped = sample_paths(
        tiny_engine(max_context),
        context,
        options(paths=7),
        progress=lambda done, total: steps.append((done, total)),
    )
    assert steps[-1][1] > horizon, "the paths were not split into groups"
    _assert_same(grouped, at_once)


def test_top_k_1_makes_all_paths_equal() -> None:
    paths = sample(random_context(*WITHIN), options(top_k=1))
    assert (paths.s1 == paths.s1[0]).all()
    np.testing.assert_allclose(
        paths.normalised, np.broadcast_to(paths.normalised[0], paths.normalised.shape), atol=5e-6
    )


def test_progress_counts_every_step_and_can_end_the_sampling() -> None:
    class CancelledError(Exception):
        pass

    seen: list[tuple[int, int]] = []

    def progress(done: int, total: int) -> None:
        seen.append((done, total))
        if done == 3:
            raise CancelledError

    context = random_context(*WITHIN)
    with pytest.raises(CancelledError):
        sample_paths(tiny_engine(), context, options(), progress=progress)
    assert seen == [(1, 12), (2, 12), (3, 12)]


def test_each_phase_is_timed() -> None:
    assert set(sample(random_context(*WITHIN), options()).seconds) == set(PHASES)


def test_weights_that_give_no_numbers_end_in_a_named_error() -> None:
    model = tiny_kronos()
    with torch.no_grad():
        model.head.proj_s1.bias[0] = float("nan")
    with pytest.raises(NonFiniteLogitsError):
        sample_paths(pack(model, tiny_tokenizer(), FLOAT32, 512), random_context(*WITHIN), options())
