"""Training learns, can be interrupted, and gives the same weights for the same seed."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from safetensors import safe_open
from torch.nn import functional

from services.inference.model.config import KronosConfig, TokenizerConfig
from services.inference.model.kronos import Kronos
from services.inference.model.tokenizer import KronosTokenizer
from services.inference.training.__main__ import main
from services.inference.training.checkpoint_folder import write_checkpoint
from services.inference.training.fit_model import fit_model, next_token_losses
from services.inference.training.fit_tokenizer import fit_tokenizer, tokenizer_quality, unigram_entropy
from services.inference.training.optimisation import Progress, Recipe, Report, learning_rate
from services.inference.training.sizes import NANO_MODEL, NANO_TOKENIZER
from services.inference.training.tokenizer_loss import assignment_entropies, tokenizer_loss
from services.inference.training.windows import WindowSource
from services.inference.weights import load_kronos, load_tokenizer
from shared.errors import CheckpointError
from tests.unit.inference.test_training_data import rows_at, stretch, write_klines

SMALL = {"d_model": 16, "n_heads": 2, "ff_dim": 32, "s1_bits": 3, "s2_bits": 3}
TOKENIZER = dataclasses.replace(NANO_TOKENIZER, **SMALL, n_enc_layers=2, n_dec_layers=2, group_size=3)
MODEL = dataclasses.replace(NANO_MODEL, **{**SMALL, "n_heads": 4}, n_layers=1)
RECIPE = Recipe(steps=30, batch=4, learning_rate=5e-3, seed=3, bfloat16=False)
HISTORY = (24, 32)


@pytest.fixture(scope="module")
def source() -> WindowSource:
    return WindowSource([stretch(400)], length=40)


def quiet(_: Progress) -> None:
    """Say nothing."""


def small_tokenizer(config: TokenizerConfig = TOKENIZER) -> KronosTokenizer:
    torch.manual_seed(0)
    return KronosTokenizer(config).eval()


def same_weights(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return all(a.equal(b) for a, b in pairs)


def test_the_tokenizer_learns_to_rebuild_candles(source: WindowSource, tmp_path: Path) -> None:
    untrained = tokenizer_quality(small_tokenizer(), source, windows=20, history=32)
    recipe = dataclasses.replace(RECIPE, steps=100)
    losses: list[float] = []

    def keep(progress: Progress) -> None:
        losses.append(progress.loss)

    tokenizer = fit_tokenizer(TOKENIZER, source, HISTORY, recipe, tmp_path / "state.safetensors", keep)
    assert len(losses) == 4
    assert all(math.isfinite(loss) for loss in losses)
    trained = tokenizer_quality(tokenizer, source, windows=20, history=32)
    assert trained["price_rmse"] < 0.75 * untrained["price_rmse"]


def test_the_model_learns_more_than_how_often_each_token_occurs(source: WindowSource, tmp_path: Path) -> None:
    tokenizer = small_tokenizer()
    recipe = dataclasses.replace(RECIPE, steps=100)
    model = fit_model(MODEL, tokenizer, source, HISTORY, recipe, tmp_path / "state.safetensors", quiet)
    batch = source.evenly(50, history=32)
    s1, s2 = tokenizer.encode(batch.candles)
    losses = next_token_losses(model, s1, s2, batch.time_features)
    assert losses.s1.mean() < unigram_entropy(s1[:, 1:], 3)
    assert losses.s2.mean() < unigram_entropy(s2[:, 1:], 3)


@pytest.mark.parametrize("what", ["tokenizer", "model"])
def test_an_interrupted_run_ends_with_the_weights_of_an_uninterrupted_one(
    what: str, source: WindowSource, tmp_path: Path
) -> None:
    dropout = {"ffn_dropout_p": 0.1, "resid_dropout_p": 0.1}

    def interrupt(_: Progress) -> None:
        raise KeyboardInterrupt

    def run(name: str, report: Report = quiet, seed: int = 3) -> torch.nn.Module:
        recipe = dataclasses.replace(RECIPE, seed=seed)
        state = tmp_path / f"{name}.safetensors"
        if what == "tokenizer":
            config = dataclasses.replace(TOKENIZER, **dropout)
            return fit_tokenizer(config, source, HISTORY, recipe, state, report, save_every_s=0)
        config = dataclasses.replace(MODEL, **dropout)
        return fit_model(config, small_tokenizer(), source, HISTORY, recipe, state, report, save_every_s=0)

    whole = run("whole")
    with pytest.raises(KeyboardInterrupt):
        run("parts", interrupt)
    with safe_open(tmp_path / "parts.safetensors", framework="pt") as state:
        assert state.metadata()["step"] == "24"
    torch.rand(5)
    assert same_weights(whole, run("parts"))
    assert same_weights(whole, run("parts")), "a finished run that is started again changes nothing"
    assert not same_weights(whole, run("other", seed=4))


def test_a_state_of_another_recipe_is_refused(source: WindowSource, tmp_path: Path) -> None:
    state = tmp_path / "state.safetensors"
    recipe = dataclasses.replace(RECIPE, steps=2)
    fit_tokenizer(TOKENIZER, source, HISTORY, recipe, state, quiet)
    with pytest.raises(CheckpointError, match="begun with steps 2, not 31 and seed 3, not 4"):
        fit_tokenizer(TOKENIZER, source, HISTORY, dataclasses.replace(RECIPE, steps=31, seed=4), state, quiet)
    state.write_bytes(b"garbage")
    with pytest.raises(CheckpointError, match="is no training state"):
        fit_tokenizer(TOKENIZER, source, HISTORY, RECIPE, state, quiet)


def test_a_loss_that_explodes_ends_the_run_with_advice(source: WindowSource, tmp_path: Path) -> None:
    recipe = dataclasses.replace(RECIPE, learning_rate=1e30)
    with pytest.raises(CheckpointError, match=r"lower --learning-rate \(now 1e\+30\)"):
        fit_tokenizer(TOKENIZER, source, HISTORY, recipe, tmp_path / "state.safetensors", quiet)


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


def test_the_command_trains_both_and_an_interrupted_one_goes_on(tmp_path: Path) -> None:
    klines, out = tmp_path / "klines", tmp_path / "out"
    klines.mkdir()
    write_klines(klines / "BTCUSDT-1h.csv.gz", rows_at(list(range(80))))
    options = ["all", "--klines", str(klines), "--out", str(out), "--until", "2025-01-03", "--window", "40"]
    options += [
        "--history",
        "24",
        "32",
        "--batch",
        "1",
        "--tokenizer-steps",
        "1",
        "--model-steps",
        "1",
        "--threads",
        "1",
    ]
    result = CliRunner().invoke(main, options)
    assert result.exit_code == 0, result.output
    assert "72 candles, 33 windows of 40" in result.output, "the days after --until are not learned from"
    written = (out / "Kronos-nano" / "model.safetensors").read_bytes()
    assert CliRunner().invoke(main, options).exit_code == 0
    assert (out / "Kronos-nano" / "model.safetensors").read_bytes() == written


def test_the_command_names_a_history_that_does_not_fit(tmp_path: Path) -> None:
    options = ["tokenizer", "--klines", str(tmp_path), "--out", str(tmp_path), "--until", "2025-01-03"]
    result = CliRunner().invoke(main, [*options, "--window", "64"])
    assert result.exit_code == 2
    assert "it is 128 to 360; allowed is shortest <= longest <= --window (64)" in result.output
