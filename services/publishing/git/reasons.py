"""Why an update could not be pushed, from what git said, and what to do about it: for logs. Pure."""

from __future__ import annotations

import re
from typing import Literal

from services.publishing.git.program import GitFailedError

Reason = Literal[
    "credentials", "unknown_host_key", "no_repository", "not_fast_forward", "refused", "no_network", "slow", "other"
]

# The first that is found counts. git repeats the end of some for others: "could not read from remote repository".
_SAID: tuple[tuple[Reason, str], ...] = (
    ("unknown_host_key", r"host key verification failed"),
    (
        "credentials",
        r"authentication failed|could not read (username|password)|permission denied|terminal prompts disabled"
        r"|invalid (username|credentials)|returned error: 40[13]|access denied",
    ),
    ("not_fast_forward", r"non-fast-forward|fetch first|stale info|cannot lock ref|incorrect old value"),
    ("refused", r"remote rejected|pre-receive hook declined|protected branch"),
    (
        "no_network",
        r"could not resolve|couldn't connect|failed to connect|connection (refused|timed out|reset)|unreachable"
        r"|operation timed out|no route to host|returned error: 5\d\d",
    ),
    ("no_repository", r"does not appear to be a git repository|not found|does not exist|no such remote"),
)
_IN_WORDS: dict[Reason, str] = {
    "credentials": "{address} does not let us in: put a user and a token that may write there into publish.git.repository "
    "(https://user:token@...), or let this user's git know them by a credential helper or an SSH key.",
    "unknown_host_key": "SSH does not know the host of {address}: connect once by hand as this user, and confirm its key.",
    "no_repository": "there is no repository at {address}: create an empty one there, or correct publish.git.repository.",
    "not_fast_forward": "somebody else has pushed to {branch} of {address} meanwhile: nothing needs to be done, the next "
    "update is put on top of theirs.",
    "refused": "{address} takes no push to {branch}: allow it there (a protected branch, a hook), or choose another "
    "publish.git.branch. It said: {said}",
    "no_network": "{address} cannot be reached: see whether this machine has a network, and whether the address is right.",
    "slow": "{address} did not answer in time: nothing needs to be done if that was once.",
    "other": "git said of {address}: {said}",
}


def reason_of(failed: GitFailedError) -> Reason:
    if failed.slow:
        return "slow"
    said = failed.said.lower()
    return next((reason for reason, pattern in _SAID if re.search(pattern, said)), "other")


def in_words(failed: GitFailedError, address: str, branch: str) -> str:
    """One sentence and what to do; `address` as it may be shown."""
    reason = reason_of(failed)
    lines = [line for line in failed.said.splitlines() if not line.startswith("hint:")]
    said = " ".join((" / ".join(lines[:3]) or failed.message).split())
    why = _IN_WORDS[reason].format(address=address, branch=branch, said=said)
    return f"The update was not pushed, and is tried again with the next one; {why}"
