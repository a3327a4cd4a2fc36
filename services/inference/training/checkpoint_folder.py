"""A trained module -> a checkpoint folder in the published layout: config.json and model.safetensors."""

from __future__ import annotations

import json
from pathlib import Path

from services.inference.model.kronos import Kronos
from services.inference.model.tokenizer import KronosTokenizer
from services.inference.training.safe_saving import save_whole
from services.inference.weights import CONFIG_FILE, WEIGHTS_FILE


def write_checkpoint(module: Kronos | KronosTokenizer, folder: Path) -> int:
    """float32, every tensor that the published files have. Returns the bytes of the weights. Raises OSError where they cannot
    be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / CONFIG_FILE).write_text(json.dumps(module.config.to_dict(), indent=2) + "\n", encoding="utf-8")
    weights = folder / WEIGHTS_FILE
    save_whole(module.state_dict(), weights)
    weights.chmod(0o644)  # safetensors lets nobody but its writer read, and an image's user could not
    return weights.stat().st_size
