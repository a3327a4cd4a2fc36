"""Commits made of files, without a checkout: the plumbing of the site's history. Knows no remote and no settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from services.publishing.git.program import Git, GitFailedError

SQUASHED = "refs/kronos/squashed"
INDEX = "kronos-index"  # beside the work tree's own, which it must not disturb


@dataclass(frozen=True)
class Author:
    """Who commits, from `Name <address>`."""

    name: str
    mail: str

    @classmethod
    def parse(cls, written: str) -> Author:
        name, _, mail = written.partition(" <")
        return cls(name, mail.removesuffix(">"))

    def environment(self) -> dict[str, str]:
        return {
            f"GIT_{who}_{what}": value
            for who in ("AUTHOR", "COMMITTER")
            for what, value in (("NAME", self.name), ("EMAIL", self.mail))
        }


class Trees:
    """Makes trees and commits in a repository."""

    def __init__(self, git: Git, author: Author) -> None:
        self._git = git
        self._author = author

    def resolve(self, ref: str) -> str | None:
        """The commit that a ref names, or None where there is no such ref."""
        try:
            return self._git("rev-parse", "--verify", "--quiet", "--end-of-options", f"{ref}^{{commit}}")
        except GitFailedError:
            return None

    def tree(self, commit: str) -> str:
        return self._git("rev-parse", "--verify", f"{commit}^{{tree}}")

    def blobs(self, files: Mapping[str, bytes]) -> dict[str, str]:
        """The files stored; their object ids by name."""
        return {name: self._git("hash-object", "-w", "--stdin", given=content) for name, content in files.items()}

    def blobs_of(self, commit: str, names: list[str]) -> dict[str, str]:
        """Those of a commit's files that have these names."""
        lines = self._git("ls-tree", "-z", commit, "--", *names).split("\0")
        return {line.partition("\t")[2]: line.partition("\t")[0].split()[2] for line in lines if line}

    def put(self, onto: str | None, blobs: Mapping[str, str], message: str) -> str | None:
        """A commit on top of `onto` with these files in place of theirs, and all others as they are there.

        None where they are all there already.
        """
        index = {"GIT_INDEX_FILE": str(self._git.folder / ".git" / INDEX)}
        self._git("read-tree", *([onto] if onto else ["--empty"]), environment=index)
        lines = "".join(f"100644 {blob}\t{name}\n" for name, blob in blobs.items())
        self._git("update-index", "--add", "--replace", "--index-info", given=lines.encode(), environment=index)
        tree = self._git("write-tree", environment=index)
        if onto and tree == self.tree(onto):
            return None
        parents = ["-p", onto] if onto else []
        return self._git("commit-tree", tree, *parents, given=message.encode(), environment=self._author.environment())

    def message(self, commit: str) -> str:
        return self._git("log", "-1", "--format=%B", commit)

    def newest(self, commit: str, count: int) -> list[str]:
        """Up to `count` commits that lead to one, itself included, oldest first."""
        return self._git("rev-list", "--first-parent", "--reverse", f"--max-count={count}", commit).split()

    def between(self, known: str | None, commit: str) -> list[str]:
        """The commits that lead to one and not to `known`, oldest first."""
        return self._git("rev-list", "--first-parent", "--reverse", commit, *([f"^{known}"] if known else [])).split()

    def leads_to(self, older: str, newer: str) -> bool:
        try:
            self._git("merge-base", "--is-ancestor", older, newer)
        except GitFailedError:
            return False
        return True

    def last(self, commit: str, keep: int) -> str:
        """A history that ends with the same tree as `commit` and has only its `keep` newest commits; `commit` itself where
        there are no more.
        """
        if len(self.newest(commit, keep + 1)) <= keep:
            return commit
        # In one run of git: a thousand commits made one by one would take seconds.
        stream = [f"reset {SQUASHED}\n".encode()]
        for mark, one in enumerate(self.newest(commit, keep), 1):
            written, tree, message = self._git("log", "-1", "--format=%an <%ae> %ad%n%T%n%B", "--date=raw", one).split(
                "\n", 2
            )
            told = message.strip().encode() + b"\n"
            stream += [
                f"commit {SQUASHED}\nmark :{mark}\nauthor {written}\ncommitter {written}\ndata {len(told)}\n".encode(),
                told,
                f"from :{mark - 1}\n".encode() if mark > 1 else b"",
                f'M 040000 {tree} ""\n\n'.encode(),
            ]
        self._git("fast-import", "--quiet", "--force", given=b"".join(stream))
        squashed = self.resolve(SQUASHED)
        if squashed is None or self.tree(squashed) != self.tree(commit):
            raise GitFailedError("The site's history could not be shortened: what git made of it is another site.")
        self._git("update-ref", "-d", SQUASHED)  # the branch has it from here on
        return squashed
