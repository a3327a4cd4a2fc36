"""The git program, run without a shell in a repository of our own: argument lists, limits of time, no questions asked.

Knows no site. What goes wrong is a GitFailedError that holds what git said, without anybody's password in it.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from services.publishing.git.address import Address
from shared.errors import PublishError

LOCAL_S, NETWORK_S = 60.0, 120.0  # the most that a step may take
REMOTE = "site"  # what our repository calls the one that it pushes to

# Whatever surrounds us: a repository that we were started from, settings for one command, and traces, which show passwords.
NOT_HANDED_ON = (
    "GIT_DIR",
    "GIT_WORK_TREE",
    "GIT_COMMON_DIR",
    "GIT_INDEX_FILE",
    "GIT_OBJECT_DIRECTORY",
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_NAMESPACE",
    "GIT_PREFIX",
    "GIT_CONFIG_PARAMETERS",
    "GIT_CONFIG_COUNT",
    "GIT_CONFIG_KEY",
    "GIT_CONFIG_VALUE",
    "GIT_TRACE",
    "GIT_CURL_VERBOSE",
)
# No question is put to anybody, and none but git's own ways to a repository is gone.
NOBODY_ANSWERS = {
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_ALLOW_PROTOCOL": "file:git:http:https:ssh",
    "SSH_ASKPASS_REQUIRE": "never",
    "LC_ALL": "C",  # what git says is read
}
UNLESS_SAID_OTHERWISE = {"GIT_ASKPASS": ""}
# The person's own configuration holds (credentials, proxies), but nothing of it may run, rewrite or go on behind our back.
ALWAYS = {
    "core.hooksPath": os.devnull,
    "core.fsmonitor": "false",
    "core.autocrlf": "false",
    "gc.autoDetach": "false",
    "log.showSignature": "false",
}


class GitFailedError(PublishError):
    """`said` is what git wrote, `slow` whether it was ended because it took too long."""

    def __init__(self, message: str, said: str = "", *, slow: bool = False) -> None:
        super().__init__(message)
        self.said = said
        self.slow = slow


class Git:
    """Runs git in the work tree `folder`, whose repository is in it; `address` is where it fetches from and pushes to."""

    def __init__(self, folder: Path, address: Address | None = None) -> None:
        self.folder = folder.resolve()
        self._address = address

    def __call__(
        self,
        *words: str,
        given: bytes | None = None,
        seconds: float = LOCAL_S,
        environment: Mapping[str, str] | None = None,
    ) -> str:
        """What `git WORDS` writes, stripped. Raises GitFailedError."""
        # Named, so that git never looks for a repository in the folders above, such as that of Kronos Live itself.
        command = ["git", f"--git-dir={self.folder / '.git'}", f"--work-tree={self.folder}", *words]
        return self._run(command, given, seconds, {**self._environment(), **(environment or {})})

    def over_network(self, *words: str) -> str:
        return self(*words, seconds=NETWORK_S)

    def _environment(self) -> dict[str, str]:
        settings = dict(ALWAYS)
        if self._address:
            # By the environment, which others on the machine cannot read as they can a command line.
            settings[f"remote.{REMOTE}.url"] = self._address.as_given
        counted = {"GIT_CONFIG_COUNT": str(len(settings))}
        for number, (name, value) in enumerate(settings.items()):
            counted |= {f"GIT_CONFIG_KEY_{number}": name, f"GIT_CONFIG_VALUE_{number}": value}
        return {**surroundings(), **counted}

    def _run(self, command: Sequence[str], given: bytes | None, seconds: float, environment: dict[str, str]) -> str:
        try:
            process = subprocess.Popen(
                command,
                cwd=self.folder,
                env=environment,
                stdin=subprocess.PIPE if given is not None else subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,  # so that its helpers end with it, and none finds a terminal
            )
        except FileNotFoundError:
            raise GitFailedError(
                "The program git is not installed, which publish.git needs: install it, or set publish.git.enabled to false."
            ) from None
        try:
            out, err = process.communicate(given, timeout=seconds)
        except subprocess.TimeoutExpired:
            raise GitFailedError(f"git {command[3]} took longer than {seconds:g} s.", slow=True) from None
        finally:
            _end(process)
        if process.returncode:
            said = self._without_secrets(err.decode(errors="replace")).strip()
            raise GitFailedError(f"git {command[3]} failed: {_last_line(said)}", said)
        return out.decode(errors="replace").strip()

    def _without_secrets(self, said: str) -> str:
        return self._address.hidden_in(said) if self._address else said


def surroundings() -> dict[str, str]:
    """What git is handed of this process's environment: nothing that leads it to another repository, or lets it ask."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(NOT_HANDED_ON)}
    kept.pop("GIT_CONFIG", None)  # a file that `git config` would write to; those that begin so may stay
    return {**UNLESS_SAID_OTHERWISE, **kept, **NOBODY_ANSWERS}


def _end(process: subprocess.Popen[bytes]) -> None:
    """What still runs of a git that is waited for no longer."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _last_line(said: str) -> str:
    return said.splitlines()[-1] if said else "it did not say why"
