"""Histories of pages in real git repositories: work trees, bare ones, clones, branches, and hostile ones."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from services.cli.demo_history import repository
from services.cli.demo_history.page import LARGEST_PAGE, PageError
from services.cli.demo_history.repository import PAGE, Version, opened
from shared.errors import RequestError
from tests.demo_history import FIRST_MS, HOUR_MS, DemoRepository, at, page


@pytest.fixture
def demo(tmp_path: Path) -> DemoRepository:
    return DemoRepository(tmp_path / "demo")


def versions(source: object, branch: str | None = None) -> list[Version]:
    with opened(str(source), branch) as repository:
        return list(repository.versions(repository.commits()))


def refusal(source: object, branch: str | None = None) -> str:
    with pytest.raises(RequestError) as refused:
        versions(source, branch)
    return str(refused.value)


def test_every_page_of_a_history_comes_oldest_first_with_its_commit_and_time(demo: DemoRepository) -> None:
    commits = [demo.publish(hour, f"{hour}.0%") for hour in range(5)]
    found = versions(demo.folder)
    assert [one.commit for one in found] == commits
    assert [one.committed_at_ms for one in found] == [FIRST_MS + hour * HOUR_MS + 60_000 for hour in range(5)]
    assert [one.content for one in found] == [page(at(hour), f"{hour}.0%") for hour in range(5)]


def test_bare_clones_and_addresses_give_the_same(demo: DemoRepository, tmp_path: Path) -> None:
    for hour in range(3):
        demo.commit(page(at(hour)), hour, picture=os.urandom(LARGEST_PAGE * 2))
    demo.git("clone", "--quiet", "--bare", ".", str(tmp_path / "bare"))
    address = f"file://{demo.folder}"
    assert versions(tmp_path / "bare") == versions(address) == versions(demo.folder)
    demo.git("config", "uploadpack.allowFilter", "true")
    assert versions(address) == versions(demo.folder)
    with opened(address, None) as clone:
        packed = sum(file.stat().st_size for file in clone._folder.rglob("*") if file.is_file())
        assert packed < 2 * LARGEST_PAGE  # the pictures stayed away
        assert clone.name == "demo"


def test_a_branch_is_chosen_here_at_the_origin_and_at_an_address(demo: DemoRepository, tmp_path: Path) -> None:
    (demo.folder / "README").write_text("no page on this branch")
    demo.git("add", ".")
    demo.git("commit", "--quiet", "--message", "code")
    assert "has a index.html: name the branch" in refusal(demo.folder)
    demo.git("switch", "--quiet", "--create", "gh-pages")
    demo.publish(0)
    demo.git("switch", "--quiet", "main")
    demo.git("clone", "--quiet", ".", str(tmp_path / "clone"))
    for source in (demo.folder, tmp_path / "clone", f"file://{demo.folder}"):
        assert [one.content for one in versions(source, "gh-pages")] == [page(at(0))]
    assert "There is no branch 'pages' in 'demo'; it has gh-pages, main." in refusal(demo.folder, "pages")
    assert "cannot be cloned: fatal: Remote branch pages not found" in refusal(f"file://{demo.folder}", "pages")


def test_a_page_that_is_gone_or_the_same_as_before_is_no_news(demo: DemoRepository) -> None:
    demo.publish(0)
    demo.publish(1)
    demo.commit(page(at(0)), 2)
    (demo.folder / PAGE).unlink()
    demo.git("add", ".")
    demo.git("commit", "--quiet", "--message", "gone")
    assert [one.content for one in versions(demo.folder)] == [page(at(0)), page(at(1)), None, None]


def test_a_page_that_is_huge_or_no_file_is_refused_and_the_others_are_read(demo: DemoRepository) -> None:
    demo.commit(b"x" * (LARGEST_PAGE + 5), 0)
    demo.publish(1)
    (demo.folder / PAGE).unlink()
    (demo.folder / PAGE).mkdir()
    (demo.folder / PAGE / "page").write_text("a folder")
    demo.git("add", ".")
    demo.git("commit", "--quiet", "--message", "folder")
    for allowed in ("false", "true"):
        demo.git("config", "uploadpack.allowFilter", allowed)
        huge, whole, folder = [one.content for one in versions(f"file://{demo.folder}")]
        assert isinstance(huge, PageError)
        assert ("is 65,541 bytes long" if allowed == "false" else "is longer than 65,536 bytes") in str(huge)
        assert whole == page(at(1))
        assert str(folder) == "is no file"


def test_a_partial_clone_that_lacks_pages_says_so_and_fetches_nothing(demo: DemoRepository, tmp_path: Path) -> None:
    demo.publish(0)
    demo.git("config", "uploadpack.allowFilter", "true")
    partial = tmp_path / "partial"
    demo.git("clone", "--quiet", "--bare", "--filter=blob:none", f"file://{demo.folder}", str(partial))
    marker = tmp_path / "ran"
    subprocess.run(
        ["git", "-C", str(partial), "config", "remote.origin.url", "ssh://host/x"], check=True, capture_output=True
    )
    subprocess.run(
        ["git", "-C", str(partial), "config", "core.sshCommand", f"touch {marker} #"], check=True, capture_output=True
    )
    try:
        told = [str(one.content) for one in versions(partial)]
    except RequestError as error:
        told = [str(error)]
    assert "its address" in told[0]
    assert not marker.exists()


@pytest.mark.parametrize("setting", ["core.pager", "core.fsmonitor", "gpg.program", "diff.external", "core.sshCommand"])
def test_no_setting_of_a_repository_runs_a_program(demo: DemoRepository, tmp_path: Path, setting: str) -> None:
    demo.publish(0)
    marker = tmp_path / "ran"
    demo.git("config", setting, f"touch {marker}")
    demo.git("config", "log.showSignature", "true")
    assert len(versions(demo.folder)) == 1
    assert not marker.exists()


@pytest.mark.parametrize(
    ("source", "branch", "reason"),
    [
        ("--upload-pack=touch ran", None, "is neither a folder nor the address"),
        ("ext::touch ran", None, "is neither a folder nor the address"),
        ("-oProxyCommand=touch:ran", None, "is neither a folder nor the address"),
        ("file:///nowhere/at all", "--upload-pack=touch ran", "is no branch"),
        ("nowhere", None, "is neither a folder nor the address"),
        (
            "file:///nowhere/there",
            None,
            "file:///nowhere/there cannot be cloned: fatal: '/nowhere/there' does not appear",
        ),
    ],
)
def test_what_is_no_repository_is_refused_and_nothing_becomes_an_option(
    source: str, branch: str | None, reason: str
) -> None:
    assert reason in refusal(source, branch)


def test_a_folder_within_a_repository_is_not_taken_for_it(demo: DemoRepository) -> None:
    demo.publish(0)
    (demo.folder / "inner").mkdir()
    assert "git cannot read 'inner': fatal: not a git repository" in refusal(demo.folder / "inner")


def test_a_repository_without_commits_says_so(demo: DemoRepository) -> None:
    assert "has no commit where its HEAD points" in refusal(demo.folder)


def test_where_there_is_no_git_one_sentence_says_so(demo: DemoRepository, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(demo.folder))
    assert refusal(demo.folder) == "A history is read with git, which is not installed here: install it."


def test_no_password_of_an_address_is_told(demo: DemoRepository) -> None:
    told = refusal("https://me:secret@127.0.0.1:9/demo.git")
    assert told.startswith("https://127.0.0.1:9/demo.git cannot be cloned: ")
    assert "secret" not in told
    demo.publish(0)
    demo.git("remote", "add", "origin", "")
    for address in (
        "https://me:secret@example.invalid/owner/demo.git",
        "https://example.invalid/owner/demo/",
        "git@example.invalid:owner/demo.git",
        "ssh://git@example.invalid/owner/demo",
    ):
        demo.git("remote", "set-url", "origin", address)
        with opened(str(demo.folder), None) as repository:
            assert repository.name == "example.invalid/owner/demo"


@pytest.mark.parametrize("source", ["{demo}", "file://{demo}"])
def test_a_git_that_does_not_answer_is_given_up(
    demo: DemoRepository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str
) -> None:
    demo.publish(0)
    slow = tmp_path / "slow"
    slow.mkdir()
    (slow / "git").write_text("#!/bin/sh\nexec sleep 600\n")
    (slow / "git").chmod(0o755)
    monkeypatch.setenv("PATH", f"{slow}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(repository, "READ_SECONDS", 0.5)
    monkeypatch.setattr(repository, "CLONE_SECONDS", 0.5)
    assert "git took longer than 0.5 s for a history" in refusal(source.format(demo=demo.folder))


def test_a_git_that_stops_half_way_is_told(
    demo: DemoRepository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    demo.publish(0)
    real = shutil.which("git")
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "git").write_text(f'#!/bin/sh\ncase "$*" in *"cat-file --batch") exit 1;; esac\nexec {real} "$@"\n')
    (broken / "git").chmod(0o755)
    monkeypatch.setenv("PATH", f"{broken}{os.pathsep}{os.environ['PATH']}")
    assert "git stopped while reading the history of 'demo'" in refusal(demo.folder)
