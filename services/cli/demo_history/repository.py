"""A git repository of others -> every page that its history has under one name, oldest first. Knows nothing of figures.

git is called with lists of arguments, never through a shell; nothing that a person or a repository names can become an option
of it, no repository's settings make it run another program, it asks nobody for a password, and each call has a time limit.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile
from threading import Timer
from typing import IO, cast
from urllib.parse import urlsplit, urlunsplit

from services.cli.demo_history.page import LARGEST_PAGE, PageError
from shared.errors import RequestError

PAGE = "index.html"
CLONE_SECONDS = 1800  # of a history of years over a slow line
READ_SECONDS = 600
PROTOCOLS = ("https", "http", "ssh", "git", "file")
_SCP = re.compile(r"(?:\w[\w.-]*@)?\w[\w.-]*:(?!//)[^\s:][^\s]*", re.ASCII)  # git@github.com:owner/name
_LONGEST_REASON = 200


@dataclass(frozen=True)
class Version:
    """One commit that changed the page; `committed_at_ms` is when its author made it, UTC ms. `content` is none where the page
    is gone or was told before; or a reason why nobody looked at it.
    """

    commit: str
    committed_at_ms: int
    content: bytes | PageError | None


@contextmanager
def opened(source: str, branch: str | None, tell: Callable[[str], None] = lambda _: None) -> Iterator[Repository]:
    """The repository in a folder, or a clone of the one at an address that lasts as long as this; `tell` hears in words what
    takes long. Raises RequestError.
    """
    if branch is not None and (branch.startswith("-") or not branch.isprintable()):
        raise RequestError(f"{branch!r} is no branch: name one as `git branch --all` lists it.", field="branch")
    folder = Path(source)
    if folder.is_dir():
        yield Repository(folder, branch, absent="is not in this clone: clone it whole, or give its address")
        return
    if not _is_address(source):
        raise RequestError(
            f"{source!r} is neither a folder nor the address of a git repository: allowed are a clone's folder and addresses "
            f"like https://host/owner/name.git."
        )
    with TemporaryDirectory(prefix="kronos-live-history-") as temporary:
        clone = Path(temporary) / "history.git"
        tell(f"Cloning {cleaned(source)}: commits and small files, for {CLONE_SECONDS // 60} minutes at most.")
        _clone(source, branch, clone)
        yield Repository(clone, branch, absent=f"is longer than {LARGEST_PAGE:,} bytes, and no longer one is read")


class Repository:
    """Work tree or bare; `absent` says why a page is not there that the history names."""

    def __init__(self, folder: Path, branch: str | None, absent: str) -> None:
        self._folder = folder.resolve()
        self._absent = absent
        self._tip = self._find(branch)

    @property
    def name(self) -> str:
        """Where it is from: host and path of its origin, the same however it is reached, else the name of its folder."""
        found = self._git("config", "--get", "remote.origin.url", may_fail=True).strip()
        if _is_address(found) and not found.startswith("file:"):
            return _place(found)
        return (Path(found).name or self._folder.name).removesuffix(".git")

    def commits(self) -> list[tuple[str, int]]:
        """Those that changed the page, oldest first, each with when its author made it in UTC ms. Raises RequestError."""
        told = self._git("rev-list", "--reverse", "--format=%at", self._tip, "--", PAGE).split("\n")
        heads, times = told[:-1:2], told[1::2]
        found = [(head.removeprefix("commit "), int(at) * 1000) for head, at in zip(heads, times, strict=True)]
        if not found:
            raise RequestError(
                f"No commit of '{self._folder.name}' has a {PAGE}: name the branch that has it with --branch, as --branch "
                f"gh-pages.",
                field="branch",
            )
        return found

    def versions(self, commits: Sequence[tuple[str, int]]) -> Iterator[Version]:
        """One for each of the commits, in their order; a page that is the same as before is told once. Raises RequestError."""
        blobs = self._blobs([commit for commit, _ in commits])
        contents = self._contents([one for one in dict.fromkeys(blobs) if isinstance(one, str)])
        seen: set[str] = set()
        for (commit, at_ms), blob in zip(commits, blobs, strict=True):
            if isinstance(blob, str) and blob not in seen:
                seen.add(blob)
                yield Version(commit, at_ms, next(contents))
            else:
                yield Version(commit, at_ms, blob if isinstance(blob, PageError) else None)

    def _find(self, branch: str | None) -> str:
        """The commit at the tip of a branch, here or at its origin. Raises RequestError."""
        if branch is None:
            if tip := self._git("rev-parse", "--verify", "--quiet", "HEAD^{commit}", may_fail=True).strip():
                return tip
            self._git("rev-parse", "--git-dir")  # says what is wrong where it is no repository
            raise RequestError(
                f"'{self._folder.name}' has no commit where its HEAD points: name a branch with --branch."
            )
        for place in (f"refs/heads/{branch}", f"refs/remotes/origin/{branch}"):
            told = self._git("show-ref", "--verify", "--hash", place, may_fail=True).split()
            if told:
                return told[0]
        listed = self._git("for-each-ref", "--format=%(refname:short)", "--count=10", "refs/heads", "refs/remotes")
        raise RequestError(
            f"There is no branch {branch[:60]!r} in '{self._folder.name}'; it has {', '.join(listed.split()) or 'none'}.",
            field="branch",
        )

    def _blobs(self, commits: Sequence[str]) -> list[str | PageError | None]:
        """Of each commit the page's object; none where the commit removed it."""
        named = self._named(commits)
        asked = list(dict.fromkeys(one for one in named.values() if isinstance(one, str)))
        with self._asked(["cat-file", "--batch-check"], asked) as told:
            lines = told.read().decode("utf-8", "replace").splitlines()
        if len(lines) != len(asked):
            raise RequestError(self._stopped())
        checked = {one: self._checked(one, line.split()) for one, line in zip(asked, lines, strict=True)}
        return [checked[one] if isinstance(one, str) else one for one in map(named.get, commits)]

    def _named(self, commits: Sequence[str]) -> dict[str, str | PageError | None]:
        """By commit what it says that the page is, without looking for that."""
        raw = ["diff-tree", "--stdin", "--root", "-m", "--no-renames", "--raw", "--no-abbrev", "--", PAGE]
        named: dict[str, str | PageError | None] = {}
        commit = ""
        with self._asked(raw, commits) as told:
            for line in told.read().decode("utf-8", "replace").splitlines():
                if not line.startswith(":"):
                    commit = line.split()[0]
                    continue
                _, mode, _, blob, change = line.split("\t")[0].split()
                named[commit] = None if change == "D" else blob if mode.startswith("100") else PageError("is no file")
        return named

    def _checked(self, blob: str, told: Sequence[str]) -> str | PageError:
        if told[-1] == "missing":
            return PageError(self._absent)
        if int(told[2]) > LARGEST_PAGE:
            return PageError(f"is {int(told[2]):,} bytes long, but at most {LARGEST_PAGE:,} are read")
        return blob

    def _contents(self, blobs: Sequence[str]) -> Iterator[bytes]:
        with self._asked(["cat-file", "--batch"], blobs) as told:
            for _ in blobs:
                head = told.readline().split()
                content = told.read(int(head[2])) if len(head) == 3 else b""
                if told.read(1) != b"\n":
                    raise RequestError(self._stopped())
                yield content

    @contextmanager
    def _asked(self, words: Sequence[str], names: Sequence[str]) -> Iterator[IO[bytes]]:
        """What git says to names on its standard input, as it comes; ended after READ_SECONDS at the latest."""
        with TemporaryFile() as asked:
            asked.write("".join(f"{name}\n" for name in names).encode())
            asked.seek(0)
            process = subprocess.Popen(
                [_program(), *self._where(), *words],
                stdin=asked,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=_reading(self._folder),
            )
            limit = Timer(READ_SECONDS, process.kill)
            limit.start()
            try:
                with process:
                    yield cast("IO[bytes]", process.stdout)
            finally:
                limit.cancel()

    def _git(self, *words: str, may_fail: bool = False) -> str:
        done = _run([*self._where(), *words], READ_SECONDS, _reading(self._folder))
        if done.returncode and not may_fail:
            raise RequestError(f"git cannot read '{self._folder.name}': {_reason(done.stderr)}")
        return "" if done.returncode else done.stdout

    def _where(self) -> list[str]:
        # diff-tree looks into the index, and so would ask the program that watches it.
        return ["-C", str(self._folder), "-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null"]

    def _stopped(self) -> str:
        return (
            f"git stopped while reading the history of '{self._folder.name}': it is damaged, or a partial clone that lacks its "
            f"pages; clone it whole, or give its address."
        )


def cleaned(address: str) -> str:
    """An address without name and password."""
    if "://" not in address:
        return address.rpartition("@")[2]
    parts = urlsplit(address)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment=""))


def _place(address: str) -> str:
    """As host/owner/name, of https://host/owner/name.git and of git@host:owner/name."""
    told = cleaned(address)
    scheme, found, rest = told.partition("://")
    return (rest if found else scheme.replace(":", "/", 1)).rstrip("/").removesuffix(".git")


def _is_address(source: str) -> bool:
    if not source.isprintable() or source.startswith("-"):
        return False
    scheme, found, rest = source.partition("://")
    return (
        scheme in PROTOCOLS and bool(rest.strip("/")) if found else bool(_SCP.fullmatch(source)) and "::" not in source
    )


def _clone(address: str, branch: str | None, folder: Path) -> None:
    """Commits, folders and small files alone: the demo's pictures would be a gigabyte. Raises RequestError."""
    chosen = [f"--branch={branch}"] if branch else []
    done = _run(
        [
            "clone",
            "--quiet",
            "--bare",
            "--single-branch",
            "--no-tags",
            f"--filter=blob:limit={LARGEST_PAGE + 1}",
            *chosen,
            "--",
            address,
            str(folder),
        ],
        CLONE_SECONDS,
        _fetching(),
    )
    if done.returncode:
        raise RequestError(
            f"{cleaned(address)} cannot be cloned: {_reason(done.stderr.replace(address, cleaned(address)))}"
        )
    # What was left out is to stay out: without these git would fetch each large file that is asked for.
    for setting in ("remote.origin.promisor", "remote.origin.partialclonefilter", "extensions.partialClone"):
        _run(["--git-dir", str(folder), "config", "--unset-all", setting], READ_SECONDS, _fetching())


def _program() -> str:
    found = shutil.which("git")
    if found is None:
        raise RequestError("A history is read with git, which is not installed here: install it.")
    return found


def _run(words: Sequence[str], seconds: float, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            [_program(), *words],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=seconds,
            env=environment,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise RequestError(
            f"git took longer than {seconds:g} s for a history; clone it by yourself and name the folder."
        ) from None


def _fetching() -> dict[str, str]:
    """The environment of git where it may reach others: by the usual ways alone, and without asking anybody."""
    return {
        "GIT_SSH_COMMAND": "ssh -o BatchMode=yes",
        **_plain(),
        "GIT_ALLOW_PROTOCOL": ":".join(PROTOCOLS),
    }


def _reading(folder: Path) -> dict[str, str]:
    """The environment of git where it reads one folder: no other, and nothing from elsewhere."""
    return {
        **_plain(),
        "GIT_ALLOW_PROTOCOL": "none",
        "GIT_NO_LAZY_FETCH": "1",
        "GIT_CEILING_DIRECTORIES": str(folder.parent),
        "GIT_NO_REPLACE_OBJECTS": "1",
    }


def _plain() -> dict[str, str]:
    """This process's, without what would lead git elsewhere, and in English."""
    led = {"GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY", "GIT_NAMESPACE"}
    kept = {name: value for name, value in os.environ.items() if name not in led}
    return {**kept, "GIT_TERMINAL_PROMPT": "0", "GIT_ASKPASS": "", "LC_ALL": "C"}


def _reason(stderr: str) -> str:
    """git's own last words, in a line."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    told = next((line for line in lines if line.startswith(("fatal:", "error:"))), lines[-1] if lines else "no reason")
    plain = "".join(letter if letter.isprintable() else "?" for letter in told)
    return plain[:_LONGEST_REASON].rstrip(".") + "."
