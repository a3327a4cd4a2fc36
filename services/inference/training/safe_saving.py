"""Tensors -> a safetensors file that appears whole or not at all, and a full disk as the OSError that it is."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor


def save_whole(tensors: Mapping[str, Tensor], file: Path, metadata: dict[str, str] | None = None) -> None:
    """Raises OSError where it cannot be written; a file that was there is then left as it was."""
    draft = file.with_suffix(".unfinished")
    try:
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, draft, metadata=metadata)
        draft.replace(file)
    except SafetensorError as error:
        # It tells the system's reason by its number alone, as in "No space left on device (os error 28) at path ...".
        if found := re.search(r"\(os error (\d+)\)", str(error)):
            number = int(found[1])
            raise OSError(number, os.strerror(number), str(file)) from None
        raise
    finally:
        draft.unlink(missing_ok=True)
