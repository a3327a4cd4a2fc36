"""Fetches a checkpoint's two files from the Hugging Face hub, or says in time that it cannot.

Files fetched before come from huggingface_hub's own cache without any network. HF_ENDPOINT, HF_HOME and HF_HUB_OFFLINE
are honoured by that library. Knows nothing of which checkpoints exist or whether a file is the right one.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from time import monotonic

import httpx2
from huggingface_hub import constants, get_hf_file_metadata, hf_hub_download, hf_hub_url
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled

FILES = ("config.json", "model.safetensors")
# All that huggingface_hub lets through: its own errors, those of its HTTP client and of its fast downloader.
FETCH_ERRORS = (
    HfHubHTTPError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    httpx2.HTTPError,
    httpx2.InvalidURL,
    OSError,
    ValueError,
    RuntimeError,
)


class HubError(Exception):
    """The hub does not give the files; the message says why, in words that complete 'the hub ...'."""


@dataclass(frozen=True)
class HubFolder:
    path: Path  # holds FILES
    revision: str  # the commit that they are from


def fetch(repo: str, revision: str, timeout_s: float) -> HubFolder:
    """Both files of `repo` at `revision`, from the cache or the hub. Raises HubError.

    Whether the hub can be reached is known after at most timeout_s; a download that has begun may take longer.
    """
    if cached := find_cached(repo, revision):
        return cached
    look_up(repo, revision, timeout_s)
    try:
        return _download(repo, revision, local_files_only=False)
    except FETCH_ERRORS as error:
        raise HubError(f"broke off the download of {repo} ({type(error).__name__})") from error


def _download(repo: str, revision: str, *, local_files_only: bool) -> HubFolder:
    files = [Path(hf_hub_download(repo, name, revision=revision, local_files_only=local_files_only)) for name in FILES]
    return HubFolder(files[0].parent, files[0].parent.name)


def find_cached(repo: str, revision: str) -> HubFolder | None:
    """Both files where they were fetched before; nothing is asked of the network."""
    try:
        return _download(repo, revision, local_files_only=True)
    except FETCH_ERRORS:
        return None


def look_up(repo: str, revision: str, timeout_s: float) -> None:
    """Whether the hub has `repo`: raises HubError where it does not say so within timeout_s.

    Asks for one small file's metadata, without retries. In a thread of its own, because resolving a name on a network
    that swallows packets obeys no time limit; such a thread is left behind and ends by itself.
    """
    failure: list[Exception] = []

    def ask() -> None:
        try:
            get_hf_file_metadata(hf_hub_url(repo, FILES[0], revision=revision), timeout=timeout_s)
        except FETCH_ERRORS as error:
            failure.append(error)

    if constants.is_offline_mode():
        raise HubError("is not asked, because HF_HUB_OFFLINE is set")
    deadline = monotonic() + timeout_s
    asking = Thread(target=ask, name="hub-look-up", daemon=True)
    asking.start()
    asking.join(max(0.0, deadline - monotonic()))
    if asking.is_alive():
        raise HubError(f"did not answer within {timeout_s:g} s")
    if failure:
        raise HubError(_in_words(failure[0], repo)) from failure[0]


def _in_words(error: Exception, repo: str) -> str:
    if isinstance(error, HfHubHTTPError):
        return f"answered {error.response.status_code} for {repo}"
    return f"cannot be reached ({type(error).__name__})"
