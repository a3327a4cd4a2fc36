"""Our numbers beside the reference's, on random weights in the published layout."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.parity.cases import GOLDEN, Case, differences, greedy_paths
from tests.unit.inference.tiny import native_kernels

FOLDERS = sorted(folder for folder in GOLDEN.iterdir() if folder.is_dir())
MEASURES = {
    "normalised",
    "s1_logits",
    "s2_logits",
    "reconstruction",
    "probs",
    "greedy_normalised_fast",
    "greedy_normalised_slow",
}


def test_all_golden_cases_are_here() -> None:
    assert [folder.name for folder in FOLDERS] == [
        "history_longer_than_context",
        "no_volume",
        "sliding_context",
        "spikes_clipped",
        "two_series",
        "within_context",
    ]


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_every_number_equals_the_reference(folder: Path) -> None:
    measured = differences(Case.read(folder))
    assert measured.pop("case") == folder.name
    assert measured.pop("tokens_equal") is True
    assert set(measured) - {"greedy_normalised_native"} == MEASURES
    assert max(measured.values()) <= 1e-5, measured


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_greedy_paths_by_compiled_kernels_equal_the_reference(folder: Path) -> None:
    native_kernels()
    assert differences(Case.read(folder))["greedy_normalised_native"] <= 1e-5


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_prices_and_volumes_equal_the_reference(folder: Path) -> None:
    case = Case.read(folder)
    for context, expected in zip(case.contexts, case.expected["greedy"], strict=True):
        for path in context.denormalise(greedy_paths(case, context).normalised):
            # The reference undoes the normalisation in float32, whose rounding is relative to the window's values.
            scale = np.abs(context.mean) + context.std
            assert (np.abs(path - expected) / np.maximum(scale, 1e-3)).max() < 1e-5


def test_the_command_prints_one_json_object_a_line() -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "tests.parity", *map(str, FOLDERS[:2])], capture_output=True, text=True, check=True
    )
    lines = [json.loads(line) for line in ran.stdout.splitlines()]
    assert [line["case"] for line in lines] == [folder.name for folder in FOLDERS[:2]]
    assert all(set(line) - {"greedy_normalised_native"} == MEASURES | {"case", "tokens_equal"} for line in lines)
