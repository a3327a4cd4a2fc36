"""Commands that write a folder: a full disk and one that may not be written, in one sentence."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from shared.errors import KronosLiveError, RequestError

FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
REFUSED = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST, errno.EISDIR, errno.ENAMETOOLONG}


@contextmanager
def written_to(folder: Path) -> Iterator[None]:
    """What is inside writes to the folder, in a way that leaves what was kept before as it was. Raises KronosLiveError."""
    try:
        yield
    except OSError as error:
        if error.errno in FULL:
            raise KronosLiveError(
                f"There is no room left for '{folder}' ({error.strerror}): make some, and the same command goes on from what "
                f"was kept."
            ) from None
        if error.errno in REFUSED:
            raise RequestError(
                f"'{error.filename or folder}' cannot be written ({error.strerror}): let it be written, or name another --out."
            ) from None
        raise
