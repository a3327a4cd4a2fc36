"""Files written into a folder so that whoever reads it never meets half of one."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from shared.errors import PublishError


def write_whole(folder: Path, files: Mapping[str, bytes]) -> None:
    """Put each file in place in one step, in the order given: what others are named in comes last.

    The folder is made where it is missing, and what else it holds is left alone. Raises PublishError.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            _put(folder, name, content)
    except OSError as error:
        raise PublishError(
            f"The site cannot be written to {folder} ({error.strerror}): name another folder, or mend this one."
        ) from None


def _put(folder: Path, name: str, content: bytes) -> None:
    part = folder / f".{name}.{os.getpid()}.part"
    try:
        with part.open("wb") as written:
            written.write(content)
            written.flush()
            os.fsync(written.fileno())  # else a power cut could leave the new name with nothing in it
        part.replace(folder / name)
    finally:
        part.unlink(missing_ok=True)
