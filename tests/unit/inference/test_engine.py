"""The packed engine gives the numbers of the plain modules that it was packed from."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from services.inference.engine import FLOAT32, Engine, Precision, pack
from services.inference.engine.place import Place, Slot, Span
from services.inference.model.kronos import Kronos
from services.inference.model.tokenizer import KronosTokenizer
from tests.parity.oracle import last_s2_logits
from tests.unit.inference.tiny import TINY_KRONOS, native_kernels, tiny_kronos, tiny_tokenizer

HISTORY, STEPS, SERIES, PATHS = 12, 6, 2, 4
CLOSE = {"atol": 5e-6, "rtol": 0}


@pytest.fixture(autouse=True)
def inference_mode() -> Iterator[None]:
    with torch.inference_mode():
        yield


@pytest.fixture(scope="module")
def model() -> Kronos:
    model = tiny_kronos()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" in name:  # ones in a new model, which would hide a weight that was folded wrongly
                parameter.uniform_(0.5, 1.5, generator=torch.Generator().manual_seed(len(name)))
    return model


@pytest.fixture(scope="module")
def tokenizer() -> KronosTokenizer:
    return tiny_tokenizer()


@pytest.fixture(scope="module", params=["torch", "native"])
def engine(request: pytest.FixtureRequest, model: Kronos, tokenizer: KronosTokenizer) -> Engine:
    return pack(model, tokenizer, FLOAT32, 512, native_kernels() if request.param == "native" else None)


def windows(seed: int = 1) -> tuple[Tensor, Tensor]:
    """Tokens [2, SERIES * PATHS, HISTORY + STEPS] whose history the paths of a series share, and time features."""
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.stack(
        [
            torch.randint(size, (SERIES, PATHS, HISTORY + STEPS), generator=generator)
            for size in (TINY_KRONOS.s1_vocabulary, TINY_KRONOS.s2_vocabulary)
        ]
    )
    tokens[:, :, :, :HISTORY] = tokens[:, :, :1, :HISTORY].clone()
    times = torch.randint(1, 7, (SERIES, HISTORY + STEPS, 5), generator=generator)
    return tokens.flatten(1, 2), times


def plain_hidden(model: Kronos, tokens: Tensor, times: Tensor) -> Tensor:
    return model.trunk(model.embed(tokens[0], tokens[1], times.repeat_interleave(PATHS, 0)))


def _extended(engine: Engine, tokens: Tensor, times: Tensor, places: list[Place], lengths: list[int]) -> list[Tensor]:
    """Logits of both tokens after each of the places, as engine.extend comes by them: [rows, vocabulary] each."""
    kronos = engine.kronos
    time = kronos.embed_time(times)
    caches = kronos.new_caches(SERIES)
    history = tokens[:, ::PATHS, :HISTORY]
    kronos.prefill(history[0], history[1], time[:, :HISTORY], caches)
    caches.reserve(PATHS, STEPS)
    logits, at = [], HISTORY
    for place, length in zip(places, lengths, strict=True):
        span = slice(at, at + length)
        hidden = kronos.extend(
            tokens[0, :, span], tokens[1, :, span], time[:, span].repeat_interleave(PATHS, 0), caches, place
        )[:, -1]
        logits.append(kronos.s1_logits(hidden))
        logits.append(kronos.s2_logits(hidden, tokens[0, :, 0], caches, place))
        at += length
    return logits


def _expected(model: Kronos, tokens: Tensor, times: Tensor, lengths: list[int]) -> list[Tensor]:
    hidden, expected, at = plain_hidden(model, tokens, times), [], HISTORY
    for length in lengths:
        at += length
        expected.append(model.s1_logits(hidden[:, at - 1]))
        expected.append(last_s2_logits(model, hidden[:, :at], tokens[0, :, 0]))
    return expected


@pytest.mark.parametrize("lengths", [[1] * STEPS, [6], [1, 3, 2]], ids=str)
def test_extending_a_shared_prefix_equals_running_the_whole_window_per_path(
    model: Kronos, engine: Engine, lengths: list[int]
) -> None:
    tokens, times = windows()
    places: list[Place] = [Span(sum(lengths[:index]), length) for index, length in enumerate(lengths)]
    for ours, theirs in zip(
        _extended(engine, tokens, times, places, lengths), _expected(model, tokens, times, lengths), strict=True
    ):
        torch.testing.assert_close(ours, theirs, **CLOSE)


def test_a_slot_that_moves_on_the_device_equals_slicing(model: Kronos, tokenizer: KronosTokenizer) -> None:
    engine = pack(model, tokenizer, FLOAT32, 512)
    tokens, times = windows()

    class MovingSlot(Slot):
        def __init__(self, position: int) -> None:
            super().__init__(STEPS, torch.device("cpu"))
            self.position.fill_(position)

    slots: list[Place] = [MovingSlot(step) for step in range(STEPS)]
    expected = _expected(model, tokens, times, [1] * STEPS)
    for ours, theirs in zip(_extended(engine, tokens, times, slots, [1] * STEPS), expected, strict=True):
        torch.testing.assert_close(ours, theirs, **CLOSE)


def test_the_prefix_alone_predicts_what_the_whole_window_does(model: Kronos, engine: Engine) -> None:
    tokens, times = windows()
    history, time = tokens[:, ::PATHS, :HISTORY], engine.kronos.embed_time(times[:, :HISTORY])
    caches = engine.kronos.new_caches(SERIES)
    hidden = engine.kronos.prefill(history[0], history[1], time, caches).repeat_interleave(PATHS, 0)
    caches.reserve(PATHS, STEPS)
    plain = plain_hidden(model, tokens[:, :, :HISTORY], times[:, :HISTORY])
    torch.testing.assert_close(engine.kronos.s1_logits(hidden), model.s1_logits(plain[:, -1]), **CLOSE)
    s1 = torch.arange(SERIES * PATHS)
    torch.testing.assert_close(
        engine.kronos.s2_logits(hidden, s1, caches, Span(0, 0)), last_s2_logits(model, plain, s1), **CLOSE
    )


def test_encoding_a_panel_gives_the_tokens_of_each_series_alone(engine: Engine, tokenizer: KronosTokenizer) -> None:
    candles = torch.randn(3, 40, 6, generator=torch.Generator().manual_seed(2))
    assert torch.equal(engine.tokenizer.encode(candles), torch.stack(tokenizer.encode(candles)))


@pytest.mark.parametrize("remembered", [0, 1, HISTORY])
def test_decoding_paths_behind_a_shared_history_equals_decoding_each_window(
    engine: Engine, tokenizer: KronosTokenizer, remembered: int
) -> None:
    tokens, _ = windows()
    start = HISTORY - remembered
    shown = engine.tokenizer.remember(tokens[:, ::PATHS, start:HISTORY])
    whole = tokenizer.decode(*tokens[:, :, start:])[:, remembered:]
    torch.testing.assert_close(engine.tokenizer.decode(tokens[:, :, HISTORY:], shown), whole, **CLOSE)


@pytest.mark.parametrize("name", ["bfloat16", "int8"])
def test_coarser_numbers_are_near_the_exact_ones_and_not_the_same(
    model: Kronos, tokenizer: KronosTokenizer, engine: Engine, name: str
) -> None:
    tokens, times = windows()
    if name == "int8" and engine.kronos.kernels is None:
        with pytest.raises(ValueError, match="compiled kernels alone"):
            pack(model, tokenizer, Precision(name), 512)
        return
    coarse = pack(model, tokenizer, Precision(name), 512, engine.kronos.kernels)
    places: list[Place] = [Span(step, 1) for step in range(STEPS)]
    exact = _extended(engine, tokens, times, places, [1] * STEPS)
    for ours, theirs in zip(_extended(coarse, tokens, times, places, [1] * STEPS), exact, strict=True):
        assert 0 < (ours - theirs).abs().max() < 0.1


def test_nothing_of_the_modules_is_kept(tokenizer: KronosTokenizer) -> None:
    """Their memory is a mapped file, which is let go when the engine is packed."""
    model = tiny_kronos()
    engine = pack(model, tokenizer, FLOAT32, 512)
    tokens, times = windows()
    places: list[Place] = [Span(step, 1) for step in range(STEPS)]
    before = _extended(engine, tokens, times, places, [1] * STEPS)
    for tensor in (*model.state_dict().values(), *model.buffers()):
        tensor.zero_()
    for ours, theirs in zip(_extended(engine, tokens, times, places, [1] * STEPS), before, strict=True):
        assert torch.equal(ours, theirs)
