"""How well tokens are predicted, beside how often each occurs."""

from __future__ import annotations

import math

import pytest

from services.inference.model.kronos import Kronos
from services.inference.training.token_entropy import token_entropy
from services.inference.training.windows import WindowSource
from tests.unit.inference.test_training_data import stretch
from tests.unit.inference.test_training_fit import MODEL, small_tokenizer


def test_an_untrained_model_pays_about_the_logarithm_of_the_vocabulary() -> None:
    model = Kronos(MODEL).eval()
    for projection in (model.head.proj_s1, model.head.proj_s2):
        projection.weight.data.zero_()
        projection.bias.data.zero_()
    measured = token_entropy(model, small_tokenizer(), WindowSource([stretch(200)], 72), windows=20, history=64)
    assert measured["ahead"].tokens == 20 * 8
    assert measured["window"].tokens == 20 * (64 + 8 - 1)
    for entropy in measured.values():
        assert entropy.s1_cross_entropy == pytest.approx(math.log(8), abs=1e-5)
        assert entropy.s2_cross_entropy == pytest.approx(math.log(8), abs=1e-5)
        assert 0 < entropy.s1_unigram <= math.log(8)
