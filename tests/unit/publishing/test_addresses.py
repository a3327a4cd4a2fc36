"""Where a site is pushed to: what may be shown of it, and when two addresses are one place."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.publishing.git.address import Address
from services.publishing.git.program import GitFailedError
from services.publishing.git.reasons import in_words, reason_of


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("https://me:s3cret@example.com/me/site.git", "https://example.com/me/site.git"),
        ("https://gh_token@example.com/site", "https://example.com/site"),
        ("https://me:a@b@example.com/site", "https://example.com/site"),
        ("https://example.com/site", "https://example.com/site"),
        ("git@example.com:me/site.git", "git@example.com:me/site.git"),
        ("../site.git", "../site.git"),
    ],
)
def test_an_address_is_shown_without_who_goes_there(given: str, shown: str) -> None:
    assert Address(given).shown == shown
    assert given == shown or given not in repr(Address(given))


def test_a_secret_is_hidden_wherever_git_repeats_it() -> None:
    address = Address("https://me:s3cr%21t@example.com/site")
    said = "fatal: https://me:s3cr%21t@example.com/site: s3cr!t is wrong for http://me:s3cr%21t@example.com:80/"
    assert "s3cr" not in address.hidden_in(said)
    assert "tok12345" not in Address("https://tok12345@example.com/site").hidden_in("for user tok12345")
    assert Address("git@example.com:me/site").hidden_in("git said no") == "git said no"


def test_the_same_repository_by_other_ways_is_the_same_place(tmp_path: Path) -> None:
    ways = ["https://me:x@Example.com/Me/site.git", "ssh://git@example.com/me/site", "git@example.com:me/site.git"]
    assert len({Address(way).place for way in ways}) == 1
    assert Address(ways[0]).place != Address("https://example.com/me/other").place
    assert Address(tmp_path.as_uri()).folder == Address(str(tmp_path)).folder == tmp_path.resolve()
    assert Address(ways[2]).folder is None


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ("fatal: could not read Username for 'https://example.com': terminal prompts disabled", "credentials"),
        ("fatal: Authentication failed for 'https://example.com/site/'", "credentials"),
        (
            "git@example.com: Permission denied (publickey).\nfatal: Could not read from remote repository.",
            "credentials",
        ),
        ("fatal: unable to access 'https://example.com/': The requested URL returned error: 403", "credentials"),
        ("Host key verification failed.\nfatal: Could not read from remote repository.", "unknown_host_key"),
        ("fatal: repository 'https://example.com/site/' not found", "no_repository"),
        ("fatal: '/srv/site.git' does not appear to be a git repository", "no_repository"),
        (" ! [rejected]        abc -> gh-pages (fetch first)\nerror: failed to push some refs", "not_fast_forward"),
        (" ! [rejected]        abc -> gh-pages (stale info)", "not_fast_forward"),
        (" ! [remote rejected] abc -> gh-pages (pre-receive hook declined)", "refused"),
        ("fatal: unable to access 'https://example.com/': Could not resolve host: example.com", "no_network"),
        ("ssh: connect to host example.com port 22: Connection refused", "no_network"),
        ("fatal: something new", "other"),
    ],
)
def test_what_git_says_becomes_a_reason_and_what_to_do(said: str, reason: str) -> None:
    failed = GitFailedError("git push failed", said)
    assert reason_of(failed) == reason
    sentence = in_words(failed, "https://example.com/site", "gh-pages")
    assert sentence.startswith("The update was not pushed, and is tried again with the next one; ")
    assert "\n" not in sentence
    assert "example.com" in sentence
