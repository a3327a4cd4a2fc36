from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from services.inference.model.config import KronosConfig, ModelConfigError, TokenizerConfig
from services.inference.model.kronos import Kronos
from services.inference.model.tokenizer import KronosTokenizer
from tests.conftest import PROJECT
from tests.unit.inference.tiny import TINY_KRONOS, TINY_TOKENIZER, tiny_kronos, tiny_tokenizer

STATE_DICTS = PROJECT.parent / "shared" / "kronos" / "state_dicts.json"


@pytest.mark.skipif(not STATE_DICTS.exists(), reason=f"{STATE_DICTS} lists the published tensors and is not here")
def test_every_published_checkpoint_has_our_names_kinds_and_shapes() -> None:
    for name, published in json.loads(STATE_DICTS.read_text(encoding="utf-8")).items():
        with torch.device("meta"):
            module = (
                KronosTokenizer(TokenizerConfig.from_dict(published["config"]))
                if "Tokenizer" in name
                else Kronos(KronosConfig.from_dict(published["config"]))
            )
        ours = {
            key: [str(tensor.dtype).removeprefix("torch."), list(tensor.shape)]
            for key, tensor in module.state_dict().items()
        }
        assert ours == published["tensors"], name
        assert module.config.to_dict() == published["config"]


def test_fixed_time_embeddings_have_a_name_of_their_own() -> None:
    names = tiny_kronos(learn_te=False).state_dict()
    assert "time_emb.hour_embed.emb.weight" in names
    assert "time_emb.hour_embed.weight" not in names


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"d_model": 30}, "d_model 30 must split into 2 heads of an even size"),
        ({"d_model": 36, "n_heads": 9}, "d_model 36 must split into 4 heads"),
        ({"n_layers": 0}, "'n_layers' is 0"),
        ({"n_layers": 1.5}, "'n_layers' is 1.5"),
        ({"n_layers": True}, "'n_layers' is True"),
        ({"learn_te": "yes"}, "'learn_te' is 'yes'"),
        ({"resid_dropout_p": 1.0}, "'resid_dropout_p' is 1.0"),
        ({"s1_bits": 40}, "s1_bits 40"),
    ],
)
def test_a_configuration_that_no_model_can_have_is_named(change: dict[str, object], named: str) -> None:
    with pytest.raises(ModelConfigError, match=named):
        KronosConfig.from_dict({**TINY_KRONOS.to_dict(), **change})


def test_a_missing_key_is_named_and_an_unknown_one_ignored() -> None:
    values = TINY_TOKENIZER.to_dict()
    assert TokenizerConfig.from_dict({**values, "architectures": ["x"]}) == TINY_TOKENIZER
    del values["s2_bits"]
    with pytest.raises(ModelConfigError, match="'s2_bits' is missing"):
        TokenizerConfig.from_dict(values)


def _tokens(batch: int, length: int, seed: int = 1) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    s1 = torch.randint(TINY_KRONOS.s1_vocabulary, (batch, length), generator=generator)
    s2 = torch.randint(TINY_KRONOS.s2_vocabulary, (batch, length), generator=generator)
    times = torch.stack(
        [
            torch.randint(low, high, (length,), generator=generator)
            for low, high in ((0, 60), (0, 24), (0, 7), (1, 32), (1, 13))
        ],
        dim=-1,
    )
    return s1, s2, times[None]


def test_training_sees_nothing_of_the_token_that_it_predicts() -> None:
    """Without a mask in the dependency layer, fine logits at t would see hidden state t+1, which embeds their target."""
    model = tiny_kronos()
    s1, s2, times = _tokens(2, 10)
    next_s1 = s1.roll(-1, dims=1)
    before = model(s1, s2, times, next_s1)
    s1[:, 6], s2[:, 6] = (s1[:, 6] + 1) % TINY_KRONOS.s1_vocabulary, (s2[:, 6] + 1) % TINY_KRONOS.s2_vocabulary
    after = model(s1, s2, times, next_s1)
    for ours, theirs in zip(before, after, strict=True):
        assert torch.equal(ours[:, :6], theirs[:, :6])
        assert not torch.allclose(ours[:, 6], theirs[:, 6])


def test_fine_logits_depend_on_the_true_coarse_token() -> None:
    model = tiny_kronos()
    s1, s2, times = _tokens(1, 10)
    next_s1 = s1.roll(-1, dims=1)
    _, before = model(s1, s2, times, next_s1)
    next_s1[:, 4] = (next_s1[:, 4] + 1) % TINY_KRONOS.s1_vocabulary
    _, after = model(s1, s2, times, next_s1)
    assert not torch.allclose(before[:, 4], after[:, 4])
    assert torch.equal(before[:, 5:], after[:, 5:])


def test_a_model_that_has_sampled_can_still_be_trained() -> None:
    model = tiny_kronos()
    s1, s2, times = _tokens(2, 10)
    with torch.inference_mode():
        model.trunk(model.embed(s1, s2, times))
    s1_logits, s2_logits = model.train()(s1, s2, times, s1)
    (s1_logits.sum() + s2_logits.sum()).backward()
    gradient = model.transformer[0].self_attn.q_proj.weight.grad
    assert gradient is not None
    assert gradient.abs().sum() > 0


@torch.inference_mode()
def test_appending_candles_changes_no_earlier_token_and_no_earlier_reconstruction() -> None:
    tokenizer = tiny_tokenizer()
    candles = torch.randn(1, 30, 6, generator=torch.Generator().manual_seed(2))
    long, short = torch.stack(tokenizer.encode(candles)), torch.stack(tokenizer.encode(candles[:, :20]))
    assert torch.equal(long[:, :, :20], short)
    torch.testing.assert_close(tokenizer.decode(*long)[:, :20], tokenizer.decode(*short), atol=2e-6, rtol=0)


def test_training_reconstructs_from_the_same_bits_that_encode_gives() -> None:
    tokenizer = tiny_tokenizer()
    candles = torch.randn(2, 12, 6, generator=torch.Generator().manual_seed(3))
    coarse, full, z, quantised = tokenizer(candles)
    assert coarse.shape == full.shape == candles.shape
    torch.testing.assert_close(z.norm(dim=-1), torch.ones(2, 12))
    torch.testing.assert_close(quantised.abs(), torch.full_like(quantised, TINY_TOKENIZER.codebook_bits**-0.5))
    torch.testing.assert_close(full, tokenizer.decode(*tokenizer.encode(candles)), atol=2e-6, rtol=0)


def test_the_gradient_passes_straight_through_the_sign() -> None:
    tokenizer = tiny_tokenizer()
    z = torch.randn(5, TINY_TOKENIZER.codebook_bits, requires_grad=True)
    weights = torch.randn_like(z)
    (tokenizer.quantizer(z) * weights).sum().backward()
    assert torch.equal(z.grad, weights)


def test_zero_is_a_zero_bit_and_bit_i_weighs_two_to_the_i() -> None:
    tokenizer = tiny_tokenizer()
    with torch.inference_mode():
        tokenizer.quant_embed.weight.zero_()
        tokenizer.quant_embed.bias.copy_(torch.tensor([0.0, 1.0, -1.0, 1.0, 0.0, 1.0, -1.0, -1.0, 1.0]))
        s1, s2 = tokenizer.encode(torch.zeros(1, 1, 6))
    assert (s1.item(), s2.item()) == (0b01010, 0b1001)


def test_dropout_acts_in_training_only() -> None:
    config = replace(TINY_KRONOS, ffn_dropout_p=0.5, resid_dropout_p=0.5, token_dropout_p=0.5)
    torch.manual_seed(0)
    model = Kronos(config)
    s1, s2, times = _tokens(1, 10)
    assert torch.equal(model.eval()(s1, s2, times, s1)[0], model(s1, s2, times, s1)[0])
    assert not torch.equal(model.train()(s1, s2, times, s1)[0], model(s1, s2, times, s1)[0])
