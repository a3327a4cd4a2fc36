"""Tiny random models in folders of the published layout, for services that run as processes of their own."""

from __future__ import annotations

from pathlib import Path

from services.inference.training.checkpoint_folder import write_checkpoint
from tests.unit.inference.tiny import tiny_kronos, tiny_tokenizer


def write_tiny_models(folder: Path) -> Path:
    """`folder` as model.local_dir, with random models under the names Kronos-small and Kronos-mini. Returns it."""
    for seed, (model, tokenizer) in enumerate(
        (("Kronos-small", "Kronos-Tokenizer-base"), ("Kronos-mini", "Kronos-Tokenizer-2k"))
    ):
        write_checkpoint(tiny_kronos(seed), folder / model)
        write_checkpoint(tiny_tokenizer(seed), folder / tokenizer)
    return folder
