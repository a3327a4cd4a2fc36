"""A checkpoint folder (config.json, model.safetensors) -> a verified module on the CPU, ready for inference.

Its tensors are the file's own, mapped into memory and not copied; whatever runs them packs them into its own. Every
tensor must be there, in the shape that the config asks for, and finite: a wrong file is a CheckpointError that names
file, expected and found. Knows nothing of where folders come from.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from shared.errors import CheckpointError

from .model.config import KronosConfig, ModelConfigError, TokenizerConfig
from .model.kronos import Kronos
from .model.tokenizer import KronosTokenizer

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"
# In the published files, but not used at inference: a file may lack them.
DISPENSABLE = ("post_quant_embed_pre.", "tokenizer.bsq.")


def load_kronos(folder: Path) -> Kronos:
    """Raises CheckpointError."""
    config = _read_config(folder / CONFIG_FILE)
    try:
        with torch.device("meta"):
            model = Kronos(KronosConfig.from_dict(config))
    except ModelConfigError as error:
        raise CheckpointError(f"{folder / CONFIG_FILE} is not the configuration of a Kronos model: {error}.") from None
    _fill(model, folder / WEIGHTS_FILE)
    return model


def load_tokenizer(folder: Path) -> KronosTokenizer:
    """Raises CheckpointError."""
    config = _read_config(folder / CONFIG_FILE)
    try:
        with torch.device("meta"):
            tokenizer = KronosTokenizer(TokenizerConfig.from_dict(config))
    except ModelConfigError as error:
        raise CheckpointError(f"{folder / CONFIG_FILE} is not the configuration of a tokenizer: {error}.") from None
    _fill(tokenizer, folder / WEIGHTS_FILE)
    return tokenizer


def sha256_of(file: Path) -> str:
    """Hexadecimal. Raises CheckpointError when the file cannot be read."""
    try:
        with file.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise _unreadable(file, error) from None


def check_sha256(file: Path, expected: str) -> None:
    """Raises CheckpointError, which names file, expected and found hash."""
    found = sha256_of(file)
    if found != expected:
        raise CheckpointError(
            f"{file} is not the published file: its sha256 should be {expected}, but is {found}; delete it and fetch "
            f"it again."
        )


def _read_config(file: Path) -> dict[str, Any]:
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise _unreadable(file, error) from None
    except ValueError:
        raise CheckpointError(f"{file} is not valid JSON; fetch the checkpoint again.") from None
    if not isinstance(config, dict):
        raise CheckpointError(f"{file} must hold one JSON object with the model's configuration.")
    return config


def _fill(module: nn.Module, file: Path) -> None:
    """Make the file's tensors those of the module, and the module ready for inference."""
    expected = module.state_dict()
    found = _read_tensors(file)
    _check_tensors(file, expected, found)
    if found.keys() < expected.keys():
        found = (
            type(module)(module.config).state_dict() | found
        )  # what is not used at inference, as a new module has it
    tensors = {name: found[name].to(tensor.dtype) for name, tensor in expected.items()}
    module.load_state_dict(tensors, assign=True)
    module.requires_grad_(False).eval()


def _read_tensors(file: Path) -> dict[str, Tensor]:
    try:
        return load_file(file)
    except OSError as error:
        raise _unreadable(file, error) from None
    except SafetensorError as error:
        raise CheckpointError(f"{file} is not a readable safetensors file ({error}); fetch it again.") from None


def _check_tensors(file: Path, expected: dict[str, Tensor], found: dict[str, Tensor]) -> None:
    for name, tensor in expected.items():
        if name not in found:
            if name.startswith(DISPENSABLE):
                continue
            raise CheckpointError(f"{file} lacks the tensor {name}, expected as {_describe(tensor)}.")
        if found[name].shape != tensor.shape or found[name].is_floating_point() != tensor.is_floating_point():
            raise CheckpointError(
                f"{file} holds the tensor {name} as {_describe(found[name])}, but {_describe(tensor)} was expected."
            )
        if not bool(torch.isfinite(found[name]).all()):
            raise CheckpointError(f"{file} holds numbers that are not finite in the tensor {name}; use another file.")
    if unknown := sorted(found.keys() - expected.keys()):
        raise CheckpointError(
            f"{file} holds the tensor {unknown[0]} as {_describe(found[unknown[0]])}, which its config.json has no "
            f"place for; the two files do not belong together."
        )


def _describe(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)}"


def _unreadable(file: Path, error: OSError) -> CheckpointError:
    return CheckpointError(f"{file} cannot be read: {error.strerror or error}.")
