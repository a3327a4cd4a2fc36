"""The history of a static site with the real git: commits, pushes to a bare repository, and every way in which that can fail."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest

from services.publishing.git.history import SiteHistory, Update
from services.web.situation import Stores
from shared.errors import PublishError, SettingsError
from shared.settings import PublishSettings
from tests.builders import settings
from tests.conftest import PROJECT, free_port, skip_or_fail
from tests.integration.conftest import Run
from tests.integration.test_publish import publishing
from tests.processes import eventually
from tests.web_server import HOUR_MS, forecast_stored, ingested, newest_closed_candle

BRANCH = "gh-pages"


@pytest.fixture(autouse=True)
def _git_is_here() -> None:
    if shutil.which("git") is None:
        skip_or_fail("git", "no git is on the PATH (Debian: apt-get install git)")


def git(folder: Path, *words: str, given: str | None = None) -> str:
    """What a person's git says."""
    as_somebody = "-c", "user.name=Somebody", "-c", "user.email=somebody@example.com"
    done = subprocess.run(
        ["git", *as_somebody, *words], cwd=folder, capture_output=True, text=True, input=given, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture
def remote(tmp_path: Path) -> Path:
    """A bare repository, empty."""
    git(tmp_path, "init", "--quiet", "--bare", "remote.git")
    return tmp_path / "remote.git"


def knobs(folder: Path, repository: object = "", **said: object) -> PublishSettings:
    given = {"enabled": True, "repository": str(repository), "push": bool(repository), "branch": BRANCH, **said}
    delivered = settings().publish.git.model_dump()
    return PublishSettings.model_validate({"enabled": True, "folder": folder / "site", "git": {**delivered, **given}})


def history(folder: Path, repository: object = "", **said: object) -> SiteHistory:
    return SiteHistory(knobs(folder, repository, **said), PROJECT)


def site(number: int) -> dict[str, bytes]:
    return {"index.html": f"page {number}".encode(), "prediction_chart.png": b"\x89PNG" + bytes([number])}


def update(of: SiteHistory, number: int) -> Update:
    return of.update(site(number), f"update {number}")


def messages(repository: Path, branch: str = BRANCH) -> list[str]:
    """Newest first."""
    return git(repository, "log", "--format=%s", branch, "--").splitlines()


def shown(repository: Path, name: str = "index.html") -> str:
    return git(repository, "show", f"{BRANCH}:{name}")


def somebody_pushes(remote: Path, folder: Path, name: str) -> None:
    clone = folder / f"clone-{name}"
    git(folder, "clone", "--quiet", "--branch", BRANCH, str(remote), clone.name)
    (clone / name).write_text("of somebody")
    git(clone, "add", name)
    git(clone, "commit", "--quiet", "-m", f"somebody adds {name}")
    git(clone, "push", "--quiet")


def test_each_update_is_a_commit_and_what_has_not_changed_is_none(tmp_path: Path) -> None:
    kept = history(tmp_path, author="A Site <site@example.com>")
    assert update(kept, 1).commit
    assert update(kept, 1) == Update(None, pushed=False)
    assert update(kept, 2).commit
    assert kept.folder == tmp_path / "site-git"
    assert messages(kept.folder) == ["update 2", "update 1"]
    assert git(kept.folder, "log", "-1", "--format=%an <%ae> %cn") == "A Site <site@example.com> A Site"
    assert (kept.folder / "index.html").read_text() == "page 2"  # the work tree can be looked at
    assert git(kept.folder, "status", "--porcelain") == ""


def test_updates_are_pushed_and_a_new_start_goes_on_with_them(tmp_path: Path, remote: Path) -> None:
    assert update(history(tmp_path, remote), 1).pushed
    assert update(history(tmp_path, remote), 2).pushed
    shutil.rmtree(tmp_path / "site-git")  # another machine, or a lost volume
    assert update(history(tmp_path, remote), 3).pushed
    assert messages(remote) == ["update 3", "update 2", "update 1"]
    assert shown(remote) == "page 3"


def test_what_others_pushed_stays(tmp_path: Path, remote: Path) -> None:
    kept = history(tmp_path, remote)
    update(kept, 1)
    somebody_pushes(remote, tmp_path, "CNAME")
    assert update(kept, 2).pushed
    assert messages(remote) == ["update 2", "somebody adds CNAME", "update 1"]
    assert (shown(remote), shown(remote, "CNAME")) == ("page 2", "of somebody")


@pytest.mark.parametrize(
    ("keep", "then"), [(0, ["update 3", "update 2", "somebody adds CNAME", "update 1"]), (1, ["update 3"])]
)
def test_a_push_that_is_not_fast_forward_is_told_and_comes_on_top_with_the_next_update(
    tmp_path: Path, remote: Path, keep: int, then: list[str]
) -> None:
    kept = history(tmp_path, remote, keep_updates=keep)
    update(kept, 1)
    somebody_pushes(remote, tmp_path, "CNAME")
    # As if they had pushed between our look and our push: who looks does not see it yet, who pushes meets it.
    git(remote, "config", "uploadpack.hideRefs", f"refs/heads/{BRANCH}")
    refused = update(kept, 2)
    assert (refused.pushed, refused.reason) == (False, "not_fast_forward"), refused
    assert "the next update is put on top of theirs" in str(refused.problem)
    git(remote, "config", "--unset", "uploadpack.hideRefs")
    assert messages(remote) == ["somebody adds CNAME", "update 1"]
    assert update(kept, 3).pushed
    assert messages(remote) == then
    assert (shown(remote), shown(remote, "CNAME")) == ("page 3", "of somebody")


def test_a_repository_that_is_not_there_is_told_and_gets_all_that_it_missed(tmp_path: Path) -> None:
    remote = tmp_path / "later.git"
    kept = history(tmp_path, remote)
    missing = update(kept, 1)
    assert (bool(missing.commit), missing.pushed, missing.reason) == (True, False, "no_repository")
    assert f"no repository at {remote}: create an empty one there" in str(missing.problem)
    update(kept, 2)
    git(tmp_path, "init", "--quiet", "--bare", remote.name)
    assert update(kept, 2) == Update(None, pushed=True)  # nothing new, but two to be pushed
    assert messages(remote) == ["update 2", "update 1"]


def test_a_host_that_cannot_be_reached_is_told(tmp_path: Path) -> None:
    away = update(history(tmp_path, f"http://127.0.0.1:{free_port()}/site.git"), 1)
    assert (bool(away.commit), away.pushed, away.reason) == (True, False, "no_network")


def test_a_branch_that_takes_no_push_is_told_with_what_it_said(tmp_path: Path, remote: Path) -> None:
    hook = remote / "hooks" / "pre-receive"
    hook.write_text("#!/bin/sh\necho no deploys on Sunday\nexit 1\n")
    hook.chmod(0o755)
    refused = update(history(tmp_path, remote), 1)
    assert (refused.pushed, refused.reason) == (False, "refused")
    assert "no deploys on Sunday" in str(refused.problem)


class _LetsNobodyIn(BaseHTTPRequestHandler):
    given: list[str] = []  # noqa: RUF012 - of the class, so that the test can read it

    def do_GET(self) -> None:
        self.given.append(self.headers.get("Authorization", ""))
        self.send_response(401)
        self.send_header("WWW-Authenticate", 'Basic realm="site"')
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def closed_door() -> Iterator[str]:
    """Host and port of a server that asks for credentials and takes none."""
    _LetsNobodyIn.given.clear()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _LetsNobodyIn)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_credentials_that_are_missing_or_refused_are_told_without_asking_or_showing_any(
    tmp_path: Path, closed_door: str
) -> None:
    without = update(history(tmp_path / "a", f"http://{closed_door}/site.git"), 1)
    assert (without.pushed, without.reason) == (False, "credentials")
    with_some = update(history(tmp_path / "b", f"http://me:s3cr3t%21@{closed_door}/site.git"), 2)
    assert (with_some.pushed, with_some.reason) == (False, "credentials")
    assert f"http://{closed_door}/site.git does not let us in" in str(with_some.problem)
    assert "s3cr3t" not in str(with_some.problem)
    assert f"Basic {base64.b64encode(b'me:s3cr3t!').decode()}" in _LetsNobodyIn.given  # it was tried
    kept = b"".join(file.read_bytes() for file in (tmp_path / "b" / "site-git").rglob("*") if file.is_file())
    assert b"s3cr3t" not in kept


@pytest.mark.parametrize("pushes", [True, False])
def test_only_so_many_updates_are_kept(tmp_path: Path, remote: Path, pushes: bool) -> None:
    kept = history(tmp_path, remote if pushes else "", keep_updates=3)
    for number in range(6):
        assert update(kept, number).pushed == pushes
    end = remote if pushes else kept.folder
    assert messages(end) == ["update 5", "update 4", "update 3"]
    assert [git(end, "show", f"{BRANCH}~{back}:index.html") for back in range(3)] == ["page 5", "page 4", "page 3"]
    assert messages(kept.folder) == messages(end)


def test_a_long_history_is_shortened_from_its_first_push_on_and_others_files_stay(tmp_path: Path, remote: Path) -> None:
    all_of_it = history(tmp_path, remote)
    for number in range(4):
        update(all_of_it, number)
    somebody_pushes(remote, tmp_path, "CNAME")
    (tmp_path / "elsewhere").mkdir()
    short = history(tmp_path / "elsewhere", remote, keep_updates=2)
    assert update(short, 9).pushed
    assert messages(remote) == ["update 9", "somebody adds CNAME"]
    assert shown(remote, "CNAME") == "of somebody"
    assert update(all_of_it, 10).pushed  # whoever still knows the long one goes on from the short one
    assert messages(remote) == ["update 10", "update 9", "somebody adds CNAME"]


def test_what_is_no_longer_in_the_history_goes_from_the_disk(tmp_path: Path, remote: Path) -> None:
    kept = history(tmp_path, remote, keep_updates=1)
    first = update(kept, 0).commit
    assert first
    update(kept, 1)
    found = subprocess.run(["git", "cat-file", "-e", first], cwd=kept.folder, capture_output=True, check=False)
    assert found.returncode != 0


def test_a_folder_that_holds_other_things_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "site-git").mkdir()
    (tmp_path / "site-git" / "thesis.txt").write_text("mine")
    with pytest.raises(PublishError, match="holds other things"):
        history(tmp_path)
    git(tmp_path / "site-git", "init", "--quiet")
    with pytest.raises(PublishError, match="holds other things"):
        history(tmp_path)
    assert {file.name for file in (tmp_path / "site-git").iterdir()} == {"thesis.txt", ".git"}


def test_two_do_not_keep_one_history(tmp_path: Path) -> None:
    first = history(tmp_path)
    with pytest.raises(PublishError, match="Another `kronos-live publish` keeps"):
        history(tmp_path)
    assert update(first, 1).commit


def test_locks_of_a_run_that_was_killed_hold_up_nobody(tmp_path: Path) -> None:
    update(history(tmp_path), 1)
    (tmp_path / "site-git" / ".git" / "index.lock").touch()
    (tmp_path / "site-git" / ".git" / "refs" / "heads" / f"{BRANCH}.lock").touch()
    assert update(history(tmp_path), 2).commit


def test_our_own_repository_is_refused_unless_allowed(tmp_path: Path) -> None:
    project = tmp_path / "project"
    git(tmp_path, "init", "--quiet", project.name)
    git(project, "commit", "--quiet", "--allow-empty", "-m", "begun")
    git(project, "worktree", "add", "--quiet", str(tmp_path / "beside"))
    git(project, "remote", "add", "origin", "git@example.com:me/kronos-live.git")
    ways = [project, project / ".git", tmp_path / "beside", project.as_uri(), "https://x:y@example.com/me/kronos-live"]
    for way in ways:
        with pytest.raises(
            SettingsError, match=r"the repository of Kronos Live itself.*allow_own_repository"
        ) as refused:
            SiteHistory(knobs(tmp_path, way), project)
        assert "x:y" not in str(refused.value)
    assert update(SiteHistory(knobs(tmp_path, project, allow_own_repository=True), project), 1).pushed
    assert messages(project) == ["update 1"]


def test_surroundings_of_another_repository_lead_nowhere_else(
    tmp_path: Path, remote: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    git(tmp_path, "init", "--quiet", "another")
    for name, value in {"GIT_DIR": ".git", "GIT_INDEX_FILE": "index", "GIT_WORK_TREE": "."}.items():
        monkeypatch.setenv(name, str(tmp_path / "another" / value))
    assert update(history(tmp_path, remote), 1).pushed
    for name in ("GIT_DIR", "GIT_INDEX_FILE", "GIT_WORK_TREE"):
        monkeypatch.delenv(name)
    assert not (tmp_path / "another" / ".git" / "refs" / "heads" / BRANCH).exists()


def test_the_process_commits_and_pushes_each_forecast_and_a_failure_holds_up_nobody(
    redis_url: str, stores: Stores, web: httpx.Client, tmp_path: Path
) -> None:
    remote, last = tmp_path / "later.git", newest_closed_candle()
    told = {
        "KRONOS_PUBLISH__GIT__ENABLED": "true",
        "KRONOS_PUBLISH__GIT__PUSH": "true",
        "KRONOS_PUBLISH__GIT__REPOSITORY": str(remote),
    }
    earlier = forecast_stored(stores, ingested(stores, last_open_time_ms=last - HOUR_MS))
    with publishing(redis_url, tmp_path / "site", **told) as running:
        running.wait_for_log("site_not_pushed")
        [line] = [one for one in map(json.loads, running.log().splitlines()) if one["event"] == "site_not_pushed"]
        assert (line["forecast"], line["reason"], line["service"]) == (earlier.id, "no_repository", "publish")
        assert earlier.id in (tmp_path / "site" / "index.html").read_text()
        assert stores.forecasts.load(earlier.id) == earlier
        assert earlier.id in web.get("/").text
        git(tmp_path, "init", "--quiet", "--bare", remote.name)
        later = forecast_stored(stores, ingested(stores, last_open_time_ms=last))
        eventually(lambda: f'"{later.id}"' in running.log() and '"pushed": true' in running.log(), 60, running.log)
    newest, before = messages(remote)
    assert newest.startswith(f"{later.id}: upside 46.7 %")
    assert before.startswith(earlier.id)
    assert f"<dd>{later.id}</dd>" in shown(remote)


def test_a_start_that_cannot_be_names_the_knob(run: Run, tmp_path: Path) -> None:
    told = {"KRONOS_PUBLISH__ENABLED": "true", "KRONOS_PUBLISH__FOLDER": str(tmp_path / "site")}
    git_on = {**told, "KRONOS_PUBLISH__GIT__ENABLED": "true"}
    nowhere = run("publish", **git_on, KRONOS_PUBLISH__GIT__PUSH="true")
    assert (nowhere.returncode, len(nowhere.stderr.splitlines())) == (2, 1)
    assert "publish.git.push is true, but publish.git.repository is empty" in nowhere.stderr
    without_git = run("publish", **git_on, PATH=str(tmp_path))
    assert without_git.returncode == 1
    assert "The program git is not installed" in without_git.stderr
