"""The languages of the page: which one a person reads, and the words of each.

One catalogue a language, static/words/<language>.json, read by the server's templates and by the page's scripts alike.
English is the catalogue that the others are measured by; that they have the same keys is tested.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from flask import Request
from markupsafe import Markup, escape

LANGUAGES = {"en": "English", "zh": "中文"}
HTML_NAMES = {"en": "en", "zh": "zh-Hans"}
COOKIE = "language"
PARAMETER = "lang"

Translate = Callable[..., Markup]


@dataclass(frozen=True)
class Saying:
    """A sentence that is said in whichever language: its key, and the values that come into it."""

    key: str
    values: Mapping[str, object] = field(default_factory=dict)


def language_of(request: Request) -> str:
    """The language asked for in the address, else chosen here before, else the browser's, else English."""
    for chosen in (request.args.get(PARAMETER), request.cookies.get(COOKIE)):
        if chosen in LANGUAGES:
            return chosen
    preferred = (tag.split("-")[0].lower() for tag in request.accept_languages.values())  # the most wanted first
    return next((language for language in preferred if language in LANGUAGES), "en")


@cache
def words(language: str) -> dict[str, str]:
    """The catalogue of a language: sentences by key, with {names} where values come in."""
    file = Path(__file__).parent / "static" / "words" / f"{language}.json"
    return dict(json.loads(file.read_text(encoding="utf-8")))


def translator(language: str) -> Translate:
    """Says the words of a key in a language, as HTML: values are escaped, unless they are HTML already."""
    catalogue = words(language)

    def say(key: str, **values: object) -> Markup:
        return Markup(escape(catalogue[key])).format(**values)  # noqa: S704 - escaped right here

    return say


def in_english(sayings: Sequence[Saying]) -> str:
    """Sentences for programs, which are spoken to in English."""
    return " ".join(words("en")[saying.key].format(**saying.values) for saying in sayings)
