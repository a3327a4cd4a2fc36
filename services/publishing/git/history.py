"""The site's history: each update is a commit in a work tree beside the site, and pushed where that is asked for.

    <folder>-git/                   the work tree, with the site as it was committed last
    refs/heads/<branch>             what is committed here, pushed or not
    refs/kronos/remote/<branch>     what the remote's branch was when it was last heard of

What cannot be pushed stays, and goes along with the next update; where others have pushed meanwhile, it is put on top of
theirs. Nothing is merged: our three files are as we say, all others of the branch as they are.
"""

from __future__ import annotations

import fcntl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from services.publishing.git.address import Address
from services.publishing.git.own import is_own_repository
from services.publishing.git.program import REMOTE, Git, GitFailedError
from services.publishing.git.reasons import Reason, in_words, reason_of
from services.publishing.git.trees import Author, Trees
from shared.errors import PublishError, SettingsError
from shared.logs import get_logger
from shared.settings import PublishSettings

FETCHED = "refs/kronos/fetched"
OURS = "kronos.publish"  # in a repository's configuration: that it is one of ours
# Old objects go soon, since each update brings a picture.
CONFIGURATION = {
    OURS: "true",
    "core.logAllRefUpdates": "false",
    "gc.auto": "300",
    "gc.autoPackLimit": "10",
    "gc.pruneExpire": "now",
}

log = get_logger(__name__)


@dataclass(frozen=True)
class Update:
    """What became of one: its commit, None where nothing had changed; and why it was not pushed, where it was to be."""

    commit: str | None
    pushed: bool
    reason: Reason | None = None
    problem: str | None = None


class SiteHistory:
    """One branch of one repository. Raises SettingsError where it is not to be written, PublishError where it cannot be."""

    def __init__(self, settings: PublishSettings, project: Path) -> None:
        self._settings = settings.git
        given = self._settings.repository.get_secret_value()
        self._address = Address(given) if given else None
        if self._address and not self._settings.allow_own_repository and is_own_repository(self._address, project):
            raise SettingsError(
                f"publish.git.repository is {self._address.shown}, the repository of Kronos Live itself: name another, or set "
                f"publish.git.allow_own_repository to true.",
                field="publish.git.repository",
            )
        site = settings.folder.resolve()
        self.folder = site.parent / f"{site.name}-git"
        self._git = Git(self.folder, self._address)
        self._trees = Trees(self._git, Author.parse(self._settings.author))
        self._branch = f"refs/heads/{self._settings.branch}"
        self._remote = f"refs/kronos/remote/{self._settings.branch}"
        self._prepare()

    def update(self, files: Mapping[str, bytes], message: str) -> Update:
        """Commit the files, and push what is not there yet. Raises PublishError where they cannot be committed."""
        failed = self._hear_of_remote() if self._settings.push else None
        commit = self._trees.put(self._trees.resolve(self._branch), self._trees.blobs(files), message)
        if commit:
            self._set(self._branch, commit)
        if self._settings.push and not failed:
            failed = self._push()
        elif not self._settings.push:
            self._shorten()
        self._git("reset", "--quiet", "--hard", self._branch)
        self._tidy_up()
        if failed:
            assert self._address is not None  # noqa: S101 - the settings let nobody push to nowhere
            problem = in_words(failed, self._address.shown, self._settings.branch)
            return Update(commit, pushed=False, reason=reason_of(failed), problem=problem)
        return Update(commit, pushed=self._settings.push)

    def _prepare(self) -> None:
        """The work tree as an earlier run left it, or a new one; nobody else's."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            new = not any(self.folder.iterdir())
        except OSError as error:
            raise PublishError(f"The site's history cannot be kept in {self.folder} ({error.strerror}).") from None
        if new:
            self._git("init", "--quiet", "--template=")
            for name, value in CONFIGURATION.items():
                self._git("config", name, value)
        elif not (self.folder / ".git").is_dir() or not self._is_ours():
            raise PublishError(
                f"The site's history belongs in {self.folder}, which holds other things: move them, or name another "
                f"publish.folder."
            )
        self._lock()
        for left_behind in (self.folder / ".git").rglob("*.lock"):  # by a run that was killed: the lock above is ours
            left_behind.unlink(missing_ok=True)
        self._git("symbolic-ref", "HEAD", self._branch)

    def _is_ours(self) -> bool:
        try:
            return self._git("config", "--local", "--get", OURS) == "true"
        except GitFailedError:
            return False

    def _lock(self) -> None:
        self._locked = (self.folder / ".git" / "kronos-in-use").open("w")  # until this process ends, however it does
        try:
            fcntl.flock(self._locked, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise PublishError(
                f"Another `kronos-live publish` keeps {self.folder}: end it, or name another publish.folder."
            ) from None

    def _hear_of_remote(self) -> GitFailedError | None:
        """See where the remote's branch is, and put what was not pushed yet on top of it; what failed, if anything."""
        try:
            tip = self._tip_of_remote()
            if tip == self._trees.resolve(self._remote):
                return None
            if tip is None:  # the branch is gone, so all of ours is to be pushed
                self._git("update-ref", "-d", self._remote)
                return None
            # Of a long history only the end is of use; what is pushed later brings its own.
            depth = [] if self._trees.resolve(self._branch) else [f"--depth={max(1, self._settings.keep_updates)}"]
            kept = "--no-tags", "--no-recurse-submodules", "--no-write-fetch-head", "--quiet"
            self._git.over_network("fetch", *kept, *depth, "--", REMOTE, f"+{self._branch}:{FETCHED}")
        except GitFailedError as failed:
            return failed
        self._go_on_from(self._trees.resolve(FETCHED) or tip)
        self._git("update-ref", "-d", FETCHED)  # else it would keep what is shortened later
        return None

    def _tip_of_remote(self) -> str | None:
        told = (
            line.split("\t") for line in self._git.over_network("ls-remote", "--", REMOTE, self._branch).splitlines()
        )
        return next((commit for commit, ref in told if ref == self._branch), None)  # git also lists what ends like it

    def _go_on_from(self, tip: str) -> None:
        """Let our branch follow the remote's, with what it has not heard of on top."""
        ours = self._trees.resolve(self._branch)
        if ours and not self._trees.leads_to(ours, tip) and self._trees.tree(ours) != self._trees.tree(tip):
            on_top = tip
            for commit in self._trees.between(self._trees.resolve(self._remote), ours):
                blobs = self._trees.blobs_of(commit, self._names_of(commit))
                on_top = self._trees.put(on_top, blobs, self._trees.message(commit)) or on_top
            self._set(self._branch, on_top)
        else:
            self._set(self._branch, tip)
        self._set(self._remote, tip)

    def _names_of(self, commit: str) -> list[str]:
        """The files that a commit of ours changed."""
        return (
            self._git("diff-tree", "--root", "--no-commit-id", "--name-only", "-r", "-z", commit)
            .strip("\0")
            .split("\0")
        )

    def _push(self) -> GitFailedError | None:
        """Push what the remote lacks; what failed, if anything."""
        ours, known = self._trees.resolve(self._branch), self._trees.resolve(self._remote)
        assert ours is not None  # noqa: S101 - a commit was just made, or there was nothing to be made beside one
        keep = self._settings.keep_updates
        wanted = self._trees.last(ours, keep) if keep else ours
        if wanted == known:
            return None
        # By force only over what we know of: where somebody has pushed meanwhile, the remote refuses.
        by_force = [] if wanted == ours else [f"--force-with-lease={self._branch}:{known or ''}"]
        try:
            self._git.over_network("push", "--quiet", *by_force, "--", REMOTE, f"{wanted}:{self._branch}")
        except GitFailedError as failed:
            return failed
        self._set(self._branch, wanted)
        self._set(self._remote, wanted)
        return None

    def _shorten(self) -> None:
        ours = self._trees.resolve(self._branch)
        if ours and self._settings.keep_updates:
            self._set(self._branch, self._trees.last(ours, self._settings.keep_updates))

    def _set(self, ref: str, commit: str) -> None:
        self._git("update-ref", ref, commit)

    def _tidy_up(self) -> None:
        try:
            if self._settings.keep_updates:
                self._git("prune", "--expire=now")
            self._git("gc", "--auto", "--quiet")
        except GitFailedError as failed:  # the update is committed all the same
            log.warning("site_history_not_tidied", problem=failed.message)
