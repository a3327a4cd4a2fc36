from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode

from services.inference import path_sampler, token_choice
from services.inference.decode_loop import SteppingLoop
from services.inference.engine import FLOAT32, Engine, Precision, pack
from services.inference.path_sampler import (
    MOST_RECORDED,
    PHASES,
    PathSampler,
    SampledPaths,
    draw_uniforms,
    sample_paths,
)
from services.inference.token_choice import NonFiniteLogitsError
from tests.parity.oracle import sample_paths_slowly
from tests.unit.inference.tiny import (
    Computing,
    native_kernels,
    options,
    random_context,
    sample,
    tiny_engine,
    tiny_kronos,
    tiny_tokenizer,
)

WITHIN = (100, 12, 512)
# history, horizon, max_context: within; the window fills on the way; history alone is longer; no history is left in
# the window; the horizon fills the window alone.
SITUATIONS = [WITHIN, (60, 24, 64), (90, 12, 64), (70, 40, 32), (40, 32, 32), (10, 1, 512), (32, 1, 32)]


@pytest.fixture(params=["torch", "native"])
def each_kind_of_kernels(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Computing, "kernels", native_kernels() if request.param == "native" else None)


def _assert_same(ours: SampledPaths, theirs: SampledPaths) -> None:
    np.testing.assert_array_equal(ours.s1, theirs.s1)
    np.testing.assert_array_equal(ours.s2, theirs.s2)
    np.testing.assert_allclose(ours.normalised, theirs.normalised, atol=5e-6, rtol=0)


@pytest.mark.parametrize(("history", "horizon", "max_context"), [s for s in SITUATIONS if s[1] <= s[2]])
@pytest.mark.usefixtures("each_kind_of_kernels")
def test_shared_prefix_sampling_equals_the_oracle(history: int, horizon: int, max_context: int) -> None:
    context = random_context(history, horizon, max_context)
    model, tokenizer = tiny_kronos(), tiny_tokenizer()
    fast = sample_paths(pack(model, tokenizer, FLOAT32, max_context, Computing.kernels), context, options())
    slow = sample_paths_slowly(model, tokenizer, context, options(), max_context=max_context)
    assert fast.normalised.shape == (6, horizon, 6)
    assert len(np.unique(fast.s1, axis=0)) > 1
    _assert_same(fast, slow)


@pytest.mark.usefixtures("each_kind_of_kernels")
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


@pytest.mark.usefixtures("each_kind_of_kernels")
def test_a_path_does_not_depend_on_how_many_are_drawn_beside_it() -> None:
    context = random_context(*WITHIN)
    many, few = sample(context, options(paths=20)), sample(context, options(paths=3))
    np.testing.assert_array_equal(many.s1[:3], few.s1)
    np.testing.assert_allclose(many.normalised[:3], few.normalised, atol=5e-6, rtol=0)
    at_once, generator = draw_uniforms(torch.Generator().manual_seed(1), 20, 12), torch.Generator().manual_seed(1)
    assert torch.equal(at_once, torch.cat([draw_uniforms(generator, paths, 12) for paths in (3, 1, 16)]))


@pytest.mark.parametrize(("history", "horizon", "max_context"), [WITHIN, (60, 24, 64)])
@pytest.mark.parametrize("most_at_once", [1, 4, 5, 9])
@pytest.mark.usefixtures("each_kind_of_kernels")
def test_paths_sampled_in_groups_equal_those_sampled_at_once(
    history: int, horizon: int, max_context: int, most_at_once: int
) -> None:
    engine, context = tiny_engine(max_context), random_context(history, horizon, max_context)
    at_once = sample_paths(engine, context, options(paths=11))
    steps: list[tuple[int, int]] = []
    sampler = PathSampler(engine, [context], options().choice, [options().seed], most_at_once=most_at_once)
    (grouped,) = sampler.draw(11, lambda done, total: steps.append((done, total)))
    assert steps[-1] == (len(steps), len(steps))
    assert len(steps) > horizon, "the paths were not split into groups"
    np.testing.assert_array_equal(grouped.s1, at_once.s1)
    np.testing.assert_array_equal(grouped.s2, at_once.s2)
    np.testing.assert_array_equal(grouped.normalised, at_once.normalised)


def test_paths_go_in_as_many_groups_as_their_memory_asks_for(monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[tuple[int, int]] = []
    monkeypatch.setattr(path_sampler, "BYTES_AT_ONCE", {"cpu": 2**17})
    sample_paths(tiny_engine(), random_context(*WITHIN), options(paths=30), progress=lambda *step: steps.append(step))
    assert steps[-1][1] > 12


@pytest.mark.usefixtures("each_kind_of_kernels")
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


@pytest.mark.usefixtures("each_kind_of_kernels")
def test_weights_that_give_no_numbers_end_in_a_named_error() -> None:
    model = tiny_kronos()
    with torch.no_grad():
        model.head.proj_s1.bias[0] = float("nan")
    with pytest.raises(NonFiniteLogitsError):
        sample_paths(pack(model, tiny_tokenizer(), FLOAT32, 512, Computing.kernels), random_context(*WITHIN), options())


def recording_engine(max_context: int = 512) -> Engine:
    return replace(tiny_engine(max_context), records_steps=True, loops={})


SHAPES = [(1, 30), (3, 30), (1, 5), (2, 1)]  # series, paths


@pytest.mark.parametrize(("series", "paths"), SHAPES)
@pytest.mark.usefixtures("each_kind_of_kernels")
def test_a_panel_draws_for_each_series_the_very_tokens_that_it_has_alone(series: int, paths: int) -> None:
    engine, contexts = tiny_engine(), [random_context(*WITHIN, seed=seed) for seed in range(series)]
    panel = PathSampler(engine, contexts, options().choice, seeds=range(series)).draw(paths)
    for seed, (context, together) in enumerate(zip(contexts, panel, strict=True)):
        alone = sample_paths(engine, context, options(paths=paths, seed=seed))
        assert alone.normalised.shape == (paths, 12, 6)
        np.testing.assert_array_equal(together.s1, alone.s1)
        np.testing.assert_array_equal(together.s2, alone.s2)
        np.testing.assert_array_equal(together.normalised, alone.normalised)


@pytest.mark.usefixtures("each_kind_of_kernels")
def test_paths_drawn_bit_by_bit_are_those_drawn_at_once() -> None:
    engine, context = tiny_engine(), random_context(*WITHIN)
    sampler = PathSampler(engine, [context], options().choice, seeds=[7])
    parts = [sampler.draw(paths)[0] for paths in (1, 20, 4, 5)]
    at_once = sample_paths(engine, context, options(paths=30))
    np.testing.assert_array_equal(np.concatenate([part.s1 for part in parts]), at_once.s1)
    np.testing.assert_array_equal(np.concatenate([part.normalised for part in parts]), at_once.normalised)


@pytest.mark.parametrize(("series", "paths"), SHAPES)
def test_recorded_steps_draw_the_tokens_of_slicing_ones(series: int, paths: int) -> None:
    """The loop that CUDA records as a graph, run step by step on the CPU."""
    contexts = [random_context(*WITHIN, seed=seed) for seed in range(series)]
    stepping, recording = tiny_engine(), recording_engine()
    for _ in range(2):  # the second time on what was recorded
        drawn = [
            PathSampler(engine, contexts, options().choice, range(series)).draw(paths)
            for engine in (stepping, recording)
        ]
        for ours, theirs in zip(*drawn, strict=True):
            _assert_same(ours, theirs)
    assert len(recording.loops) == 1


@pytest.mark.parametrize("records_steps", [False, True])
def test_several_forecasts_in_hand_do_not_mix(records_steps: bool) -> None:
    engine = replace(tiny_engine(), records_steps=records_steps)
    contexts = [random_context(*WITHIN, seed=seed) for seed in range(2)]
    samplers = [PathSampler(engine, [context], options().choice, [7]) for context in contexts]
    in_turn = [[sampler.draw(4)[0] for sampler in samplers] for _ in range(2)]
    for context, *parts in zip(contexts, *in_turn, strict=True):
        at_once = sample_paths(engine, context, options(paths=8))
        np.testing.assert_array_equal(np.concatenate([part.s1 for part in parts]), at_once.s1)


def test_a_window_that_slides_is_never_recorded() -> None:
    context = random_context(60, 24, 64)
    engine = recording_engine(64)
    _assert_same(sample_paths(engine, context, options()), sample_paths(tiny_engine(64), context, options()))
    assert [type(loop) for loop in engine.loops.values()] == [SteppingLoop]


def test_only_a_few_shapes_stay_recorded() -> None:
    engine, context = recording_engine(), random_context(*WITHIN)
    for paths in range(4, 4 + MOST_RECORDED + 3):
        sample_paths(engine, context, options(paths=paths))
    assert len(engine.loops) == MOST_RECORDED


def test_a_recorded_step_never_waits_for_an_answer_of_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """On tensors without values, whatever would ask for one (a branch, an index, `item`) raises. With the products and
    the sort that a GPU uses: the CPU's own have no such form."""
    monkeypatch.setattr(Precision, "packs_with_onednn", lambda *_: False)
    monkeypatch.setattr(token_choice, "_sorted", lambda probabilities: probabilities.sort(dim=-1).values)
    engine = recording_engine()
    PathSampler(engine, [random_context(*WITHIN)], options().choice, [7]).draw(4)
    (loop,) = engine.loops.values()
    with FakeTensorMode(allow_non_fake_inputs=True), torch.inference_mode():
        with pytest.raises(DataDependentOutputException):
            bool(torch.ones(()))
        loop.step()
