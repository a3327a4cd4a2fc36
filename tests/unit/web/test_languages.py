"""The catalogues of words: complete, of one mind about their values, and all of them in use."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from flask import Flask, request

from services.web.languages import LANGUAGES, Saying, in_english, language_of, translator, words
from shared.klines import ORIGINS

WEB = Path(__file__).parents[3] / "services" / "web"
DYNAMIC = (
    "baseline.",
    "record.verdict.",
    "record.means.",
    "record.origin_",
    "drift.",
    "unit.",
    "error.",
    "job.",
    "facts.source_",
    "facts.origin_",
    "facts.defect_",
    "figure.no_amplification_",
    "notice.backtest",
)
OTHERS = [language for language in LANGUAGES if language != "en"]


def values_in(sentence: str) -> set[str]:
    return set(re.findall(r"\{(\w+)\}", sentence))


@pytest.mark.parametrize("language", OTHERS)
def test_every_language_has_the_same_keys_in_the_same_order(language: str) -> None:
    assert list(words(language)) == list(words("en"))


@pytest.mark.parametrize("language", LANGUAGES)
def test_no_key_is_there_twice(language: str) -> None:
    text = (WEB / "static" / "words" / f"{language}.json").read_text(encoding="utf-8")
    pairs = json.loads(text, object_pairs_hook=list)
    assert len(pairs) == len(words(language))


@pytest.mark.parametrize("language", OTHERS)
def test_every_sentence_takes_the_same_values(language: str) -> None:
    differing = {key for key, text in words("en").items() if values_in(text) != values_in(words(language)[key])}
    assert differing == set()


def test_every_sentence_is_said_somewhere_and_none_is_missing() -> None:
    sources = [*WEB.rglob("*.py"), *(WEB / "templates").glob("*.html"), *(WEB / "static").glob("*.js")]
    text = "\n".join(source.read_text(encoding="utf-8") for source in sources)
    named = set(re.findall(r"""["']([a-z_]+\.[a-z_0-9]+|no_advice)["']""", text))
    unsaid = {key for key in words("en") if key not in named and not key.startswith(DYNAMIC)}
    assert unsaid == set()
    calls = set(re.findall(r"""\b(?:t|say|Saying)\(\s*["']([a-z_]+\.[a-z_0-9]+)["']""", text))
    assert {key for key in calls if key not in words("en") and key not in DYNAMIC} == set()


def test_there_is_a_word_for_every_origin_of_klines() -> None:
    assert {key for key in words("en") if key.startswith("facts.origin_")} == {f"facts.origin_{one}" for one in ORIGINS}


def test_values_are_escaped_unless_they_are_html() -> None:
    assert translator("en")("why.raw", text="<b>") == "&lt;b&gt;"


def test_programs_hear_english() -> None:
    assert in_english([Saying("why.running"), Saying("why.queued", {"position": 3})]) == (
        "Its forecast is being computed. Its forecast waits in the queue, 3 before it."
    )


@pytest.mark.parametrize(
    ("address", "accept", "cookie", "language"),
    [
        ("/", "zh-CN,zh;q=0.9,en;q=0.8", "", "zh"),
        ("/", "de-DE,en-GB;q=0.7,zh;q=0.3", "", "en"),
        ("/", "de", "", "en"),
        ("/", "", "", "en"),
        ("/", "zh", "en", "en"),
        ("/", "en", "xx", "en"),
        ("/?lang=zh", "en", "en", "zh"),
        ("/?lang=xx", "zh", "", "zh"),
    ],
)
def test_the_address_goes_before_the_choice_and_that_before_the_browser(
    address: str, accept: str, cookie: str, language: str
) -> None:
    headers = {"Accept-Language": accept, "Cookie": f"language={cookie}"}
    with Flask("test").test_request_context(address, headers=headers):
        assert language_of(request) == language
