"""Training learns, can be interrupted, and gives the same weights for the same seed."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from torch.nn import functional

from services.inference.model.config import KronosConfig, TokenizerConfig
from services.inference.model.kronos import Kronos
from services.inference.model.tokenizer import KronosTokenizer
from services.inference.training.checkpoint_folder import write_checkpoint
from services.inference.training.fit_model import fit_model, next_token_losses
from services.inference.training.fit_tokenizer import fit_tokenizer
from services.inference.training.low_rank import add_low_rank, merge_low_rank
from services.inference.training.optimisation import Progress, Report, learning_rate
from services.inference.training.optimisers import optimisers_for
from services.inference.training.recipe import Recipe
from services.inference.training.sizes import NANO_MODEL, NANO_TOKENIZER
from services.inference.training.tokenizer_loss import assignment_entropies, tokenizer_loss
from services.inference.training.tokenizer_quality import tokenizer_quality, unigram_entropy
from services.inference.training.windows import WindowSource
from services.inference.weights import load_kronos, load_tokenizer
from shared.errors import CheckpointError
from tests.unit.inference.test_training_data import stretch

SMALL = {"d_model": 16, "n_heads": 2, "ff_dim": 32, "s1_bits": 3, "s2_bits": 3}
TOKENIZER = dataclasses.replace(NANO_TOKENIZER, **SMALL, n_enc_layers=2, n_dec_layers=2, group_size=3)
MODEL = dataclasses.replace(NANO_MODEL, **{**SMALL, "n_heads": 4}, n_layers=1)
RECIPE = Recipe(steps=30, batch=4, learning_rate=5e-3, seed=3)
HISTORY = (24, 32)


@pytest.fixture(scope="module")
def source() -> WindowSource:
    return WindowSource([stretch(400)], length=40)


def quiet(_: Progress) -> None:
    """Say nothing."""


def small_tokenizer(config: TokenizerConfig = TOKENIZER) -> KronosTokenizer:
    torch.manual_seed(0)
    return KronosTokenizer(config).eval()


def small_model(config: KronosConfig = MODEL) -> Kronos:
    torch.manual_seed(0)
    return Kronos(config).eval()


def same_weights(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return all(a.equal(b) for a, b in pairs)


def test_the_tokenizer_learns_to_rebuild_candles(source: WindowSource, tmp_path: Path) -> None:
    untrained = tokenizer_quality(small_tokenizer(), source, history=32)
    recipe = dataclasses.replace(RECIPE, steps=100)
    losses: list[float] = []

    def keep(progress: Progress) -> None:
        assert progress.loss is not None
        losses.append(progress.loss)

    tokenizer = small_tokenizer()
    fit_tokenizer(tokenizer, source, HISTORY, recipe, tmp_path / "state.safetensors", keep)
    assert len(losses) == 10
    assert all(math.isfinite(loss) for loss in losses)
    trained = tokenizer_quality(tokenizer, source, history=32)
    assert all(error < 0.75 * untrained.error_in_moves[name] for name, error in trained.error_in_moves.items())


def test_the_model_learns_more_than_how_often_each_token_occurs(source: WindowSource, tmp_path: Path) -> None:
    tokenizer = small_tokenizer()
    recipe = dataclasses.replace(RECIPE, steps=100)
    model = small_model()
    fit_model(model, tokenizer, source, HISTORY, recipe, tmp_path / "state.safetensors", quiet)
    batch = source.evenly(50, history=32)
    s1, s2 = tokenizer.encode(batch.candles)
    losses = next_token_losses(model, s1, s2, batch.time_features)
    assert losses.s1.mean() < unigram_entropy(s1[:, 1:], 3)
    assert losses.s2.mean() < unigram_entropy(s2[:, 1:], 3)


@pytest.mark.parametrize("what", ["tokenizer", "model", "low rank", "muon"])
def test_an_interrupted_run_ends_with_the_weights_of_an_uninterrupted_one(
    what: str, source: WindowSource, tmp_path: Path
) -> None:
    dropout = {"ffn_dropout_p": 0.1, "resid_dropout_p": 0.1}

    def interrupt(progress: Progress) -> None:
        if progress.step == 20:
            raise KeyboardInterrupt

    def run(name: str, report: Report = quiet, seed: int = 3) -> torch.nn.Module:
        recipe = dataclasses.replace(RECIPE, seed=seed, validate_every=10, muon=what == "muon")
        state, more = (
            tmp_path / f"{name}.safetensors",
            {"validated": source, "validated_history": 32, "save_every_s": 0},
        )
        if what == "tokenizer":
            tokenizer = small_tokenizer(dataclasses.replace(TOKENIZER, **dropout))
            fit_tokenizer(tokenizer, source, HISTORY, recipe, state, report, **more)
            return tokenizer
        model = small_model(dataclasses.replace(MODEL, **dropout))
        if what == "low rank":
            add_low_rank(model, 2)
        fit_model(model, small_tokenizer(), source, HISTORY, recipe, state, report, **more)
        return model

    whole = run("whole")
    with pytest.raises(KeyboardInterrupt):
        run("parts", interrupt)
    with safe_open(tmp_path / "parts.safetensors", framework="pt") as state:
        assert json.loads(state.metadata()["position"])["step"] == 19
    torch.rand(5)
    assert same_weights(whole, run("parts"))
    assert same_weights(whole, run("parts")), "a finished run that is started again changes nothing"
    assert not same_weights(whole, run("other", seed=4))


def test_the_weights_kept_are_those_that_validate_best_and_patience_ends_the_run(
    source: WindowSource, tmp_path: Path
) -> None:
    """One window learned by heart: the losses on others fall first, and rise later."""
    recipe = dataclasses.replace(RECIPE, steps=2_000, learning_rate=2e-2, validate_every=10, patience=5)
    told: list[Progress] = []
    model, alone = small_model(), WindowSource([stretch(40)], length=40)
    others = WindowSource([stretch(400, seed=7)], length=40)
    asked = {"validated": others, "validated_history": 32}
    fitted = fit_model(
        model, small_tokenizer(), alone, HISTORY, recipe, tmp_path / "state.safetensors", told.append, **asked
    )
    validations = {one.step: one.validation for one in told if one.validation is not None}
    assert fitted.best_validation == min(validations.values())
    assert validations[fitted.best_step] == fitted.best_validation
    assert fitted.steps == fitted.best_step + 50 < 2_000
    again: list[Progress] = []
    ended = fit_model(
        small_model(), small_tokenizer(), alone, HISTORY, recipe, tmp_path / "state.safetensors", again.append, **asked
    )
    assert (ended, again) == (fitted, []), "what patience has ended does not go on"
    s1, s2 = small_tokenizer().encode(others.evenly(300, 32).candles)
    with torch.no_grad():
        losses = next_token_losses(model, s1, s2, others.evenly(300, 32).time_features)
    ahead = (losses.s1[:, 31:].mean() + losses.s2[:, 31:].mean()) / 2
    assert ahead.item() == pytest.approx(fitted.best_validation, rel=0.05)


def test_low_rank_additions_start_at_nothing_train_alone_and_merge() -> None:
    model, before = small_model(), small_model()
    assert add_low_rank(model, 2) < 0.5 * sum(parameter.numel() for parameter in before.parameters())
    batch = WindowSource([stretch(40)], length=40).evenly(1, 32)
    s1, s2 = small_tokenizer().encode(batch.candles)

    def losses(one: Kronos) -> torch.Tensor:
        return next_token_losses(one, s1, s2, batch.time_features).s1

    torch.testing.assert_close(losses(model), losses(before))
    losses(model).mean().backward()
    learning = {name for name, parameter in model.named_parameters() if parameter.grad is not None}
    assert learning
    assert all("parametrizations" in name for name in learning)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith(".up"):
                parameter.add_(0.1)
    changed = losses(model)
    merge_low_rank(model)
    torch.testing.assert_close(losses(model), changed)
    assert model.state_dict().keys() == before.state_dict().keys()
    assert not torch.allclose(changed, losses(before))


def test_muon_moves_the_matrices_of_blocks_and_adamw_all_else() -> None:
    model = small_model()
    muon, adamw = optimisers_for(model, dataclasses.replace(RECIPE, muon=True))
    moved, rest = (
        {id(one) for group in optimiser.param_groups for one in group["params"]} for optimiser in (muon, adamw)
    )
    in_blocks = {id(one) for name, one in model.named_parameters() if name.startswith("transformer.") and one.ndim > 1}
    assert moved == in_blocks
    assert rest == {id(one) for one in model.parameters()} - in_blocks
    (alone,) = optimisers_for(small_model(), RECIPE)
    assert isinstance(alone, torch.optim.AdamW)


def test_a_state_of_another_recipe_is_refused(source: WindowSource, tmp_path: Path) -> None:
    state = tmp_path / "state.safetensors"
    recipe = dataclasses.replace(RECIPE, steps=2)
    fit_tokenizer(small_tokenizer(), source, HISTORY, recipe, state, quiet)
    with pytest.raises(CheckpointError, match="begun with steps 2, not 31 and seed 3, not 4"):
        fit_tokenizer(small_tokenizer(), source, HISTORY, dataclasses.replace(RECIPE, steps=31, seed=4), state, quiet)
    state.write_bytes(b"garbage")
    with pytest.raises(CheckpointError, match="is no training state"):
        fit_tokenizer(small_tokenizer(), source, HISTORY, RECIPE, state, quiet)


def test_a_loss_that_explodes_ends_the_run_with_advice(source: WindowSource, tmp_path: Path) -> None:
    recipe = dataclasses.replace(RECIPE, learning_rate=1e30)
    with pytest.raises(CheckpointError, match=r"lower --learning-rate \(now 1e\+30\)"):
        fit_tokenizer(small_tokenizer(), source, HISTORY, recipe, tmp_path / "state.safetensors", quiet)


def test_the_learning_rate_runs_one_cycle() -> None:
    rates = [learning_rate(step, dataclasses.replace(RECIPE, steps=100)) for step in range(100)]
    assert max(rates) == pytest.approx(RECIPE.learning_rate)
    peak = rates.index(max(rates))
    assert 5 <= peak <= 15
    assert rates[peak:] == sorted(rates[peak:], reverse=True)
    assert rates[-1] < 0.02 * RECIPE.learning_rate


def test_the_tokenizer_loss_is_the_published_formula() -> None:
    tokenizer = small_tokenizer()
    generator = torch.Generator().manual_seed(1)
    candles = torch.randn((2, 10, 6), generator=generator)
    coarse, full, z, quantised = outputs = tokenizer(candles)
    loss = tokenizer_loss(candles, outputs, TOKENIZER, torch.ones(6))
    per_sample, codebook = assignment_entropies(z, 3)
    q = 0.05 * (quantised - z).square().sum(-1).mean() + TOKENIZER.zeta * (per_sample - 1.1 * codebook)
    expected = (functional.mse_loss(coarse, candles) + functional.mse_loss(full, candles) + q) / 2
    torch.testing.assert_close(loss.total, expected)


def test_codebook_entropy_is_that_of_the_average_soft_assignment() -> None:
    z = functional.normalize(torch.randn((1, 50, 4), generator=torch.Generator().manual_seed(1)), dim=-1)
    on = torch.sigmoid(4 * z / 2).reshape(-1, 4).numpy()
    expected = 0.0
    for group in (on[:, :2], on[:, 2:]):
        a, b = group[:, 0], group[:, 1]
        shares = np.array([((1 - a) * (1 - b)).mean(), ((1 - a) * b).mean(), (a * (1 - b)).mean(), (a * b).mean()])
        expected -= float((shares * np.log(shares)).sum())
    per_sample, codebook = assignment_entropies(z, 2)
    assert codebook.item() == pytest.approx(expected, abs=1e-5)
    assert per_sample.item() == pytest.approx(-(on * np.log(on) + (1 - on) * np.log(1 - on)).mean(), abs=1e-5)


def test_unigram_entropy_of_even_tokens_is_the_logarithm_of_their_number() -> None:
    assert unigram_entropy(torch.arange(8).repeat(3), 3) == pytest.approx(math.log(8))
    assert unigram_entropy(torch.zeros(9, dtype=torch.int64), 3) == 0


def test_what_is_written_loads_with_the_loader_that_serves(tmp_path: Path) -> None:
    tokenizer, model = small_tokenizer(), Kronos(MODEL)
    write_checkpoint(tokenizer, tmp_path / "tokenizer")
    write_checkpoint(model, tmp_path / "model")
    assert same_weights(load_tokenizer(tmp_path / "tokenizer"), tokenizer)
    assert same_weights(load_kronos(tmp_path / "model"), model)
    assert isinstance(model.config, KronosConfig)
