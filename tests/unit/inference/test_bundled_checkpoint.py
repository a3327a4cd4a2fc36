"""Kronos-nano as it lies in the repository: small, in the published layout, described truly, and trained."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from safetensors import safe_open

from services.inference.checkpoints import BUNDLED, BUNDLED_DIR, LoadedModel, ModelPolicy, load_model
from services.inference.training.kline_files import read_stretches
from services.inference.training.sizes import MODEL_NAME, NANO_MODEL, NANO_TOKENIZER, TOKENIZER_NAME
from services.inference.training.token_entropy import token_entropy
from services.inference.training.windows import WindowSource
from services.inference.weights import WEIGHTS_FILE
from shared.klines import Interval

MOST_BYTES = 16_000_000
FOLDERS = [BUNDLED_DIR / name for name in (MODEL_NAME, TOKENIZER_NAME)]


@pytest.fixture(scope="module")
def nano() -> LoadedModel:
    policy = ModelPolicy(Path("nowhere"), max_context=512, allow_hub=False, hub_timeout_s=1, allow_bundled=False)
    return load_model(MODEL_NAME, policy, device="cpu", is_default=False)


def test_both_files_together_are_small_enough_to_lie_beside_the_code() -> None:
    assert (BUNDLED.model.name, BUNDLED.tokenizer.name) == (MODEL_NAME, TOKENIZER_NAME)
    assert sum(path.stat().st_size for folder in FOLDERS for path in folder.iterdir()) <= MOST_BYTES


def test_it_loads_by_name_in_the_shape_that_training_makes(nano: LoadedModel) -> None:
    assert nano.source == "bundled"
    assert nano.kronos.config == NANO_MODEL
    assert nano.tokenizer.config == NANO_TOKENIZER


def test_its_weights_are_float32_and_those_the_published_layout_has() -> None:
    for folder in FOLDERS:
        with safe_open(folder / WEIGHTS_FILE, framework="pt") as file:
            kinds = {name: file.get_slice(name).get_dtype() for name in file.keys()}  # noqa: SIM118 - not a dict
        whole_numbers = {"tokenizer.bsq.basis", "tokenizer.bsq.group_basis"}
        assert {name for name, kind in kinds.items() if kind != "F32"} <= whole_numbers


def test_the_model_card_speaks_of_these_very_files(nano: LoadedModel) -> None:
    card = (BUNDLED_DIR / MODEL_NAME / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert nano.sha256 in card
    assert nano.tokenizer_sha256 in card
    for module in (nano.kronos, nano.tokenizer):
        assert f"{sum(parameter.numel() for parameter in module.parameters()):,}" in card


def test_it_predicts_tokens_of_a_time_that_it_never_saw(nano: LoadedModel, klines_folder: Path) -> None:
    """Windows spread over 2025-07 to 2025-12; it learned from klines until 2024-12 and was chosen on those until 2025-06."""
    from_ms, until_ms = (
        int(datetime(year, month, 1, tzinfo=UTC).timestamp() * 1000) for year, month in ((2025, 7), (2026, 1))
    )
    stretches = read_stretches(klines_folder / "BTCUSDT-1h.csv.gz", Interval.H1)
    source = WindowSource([stretch.between(from_ms, until_ms) for stretch in stretches], length=384)
    for entropy in token_entropy(nano.kronos, nano.tokenizer, source, windows=46, history=360).values():
        assert entropy.s1_cross_entropy < 0.9 * entropy.s1_unigram
        assert entropy.s2_cross_entropy < 0.9 * entropy.s2_unigram
