"""One page of the original demo -> the three figures that it carries. Knows no git.

Pages come from repositories of others, so nothing in them is believed: what is not exactly as the demo writes it is refused
in one sentence.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from html.parser import HTMLParser

LARGEST_PAGE = 65_536  # bytes; the demo's are a tenth of that, its pictures more
UPDATE, UPSIDE, AMPLIFICATION = "update-time", "upside-prob", "vol-amp-prob"  # ids of the elements
_EARLIEST = datetime(2020, 1, 1, tzinfo=UTC)  # long before there was a Kronos
_LONGEST_SHOWN = 40

_TIME = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", re.ASCII)
_PERCENT = re.compile(r"(\d{1,6}(?:\.\d{1,6})?) ?%", re.ASCII)


class PageError(Exception):
    """Why a page is refused: the rest of a sentence that begins with the page."""


@dataclass(frozen=True)
class Figures:
    """What a page says: when it was updated (UTC ms), and two probabilities, 0 to 1."""

    updated_at_ms: int
    upside: float
    volatility_amplification: float


def read_page(content: bytes) -> Figures:
    """Raises PageError."""
    if len(content) > LARGEST_PAGE:
        raise PageError(f"is {len(content):,} bytes long, but at most {LARGEST_PAGE:,} are read")
    try:
        html = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise PageError("is not UTF-8") from None
    parser = _ById((UPDATE, UPSIDE, AMPLIFICATION))
    try:
        parser.feed(html)
        parser.close()
    except (AssertionError, ValueError, RecursionError):  # what Python's parser says to markup that nobody writes
        raise PageError("is not HTML that can be read") from None
    return Figures(
        updated_at_ms=_moment(_only(parser, UPDATE)),
        upside=_probability(UPSIDE, _only(parser, UPSIDE)),
        volatility_amplification=_probability(AMPLIFICATION, _only(parser, AMPLIFICATION)),
    )


class _ById(HTMLParser):
    """Collects the text of some elements. What stands in scripts and comments is no element."""

    def __init__(self, ids: tuple[str, ...]) -> None:
        super().__init__(convert_charrefs=True)
        self.texts: dict[str, list[str]] = {one: [] for one in ids}
        self._within: str | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:  # noqa: ARG002 - as the parser calls it
        self._within = None  # the demo's figures are plain text: an element within one ends it
        named = dict(attrs).get("id")
        if named in self.texts:
            self.texts[named].append("")
            self._within = named

    def handle_endtag(self, tag: str) -> None:  # noqa: ARG002
        self._within = None

    def handle_data(self, data: str) -> None:
        if self._within is not None:
            self.texts[self._within][-1] += data


def _only(parser: _ById, name: str) -> str:
    found = parser.texts[name]
    if len(found) != 1:
        raise PageError(f"has {len(found) or 'no'} element{'s' if found else ''} with the id {name}, but one is needed")
    return " ".join(found[0].split())


def _moment(text: str) -> int:
    """UTC ms."""
    try:
        if not _TIME.fullmatch(text):
            raise ValueError
        at = datetime.strptime(text, "%Y-%m-%d %H:%M:%S").replace(tzinfo=UTC)
    except ValueError:
        raise PageError(f"gives {_shown(text)} as {UPDATE}, but a time like 2025-01-31 12:00:26 is needed") from None
    if at < _EARLIEST:
        raise PageError(f"was updated {text} by what it says, but nothing before {_EARLIEST:%Y} is believed")
    return int(at.timestamp()) * 1000


def _probability(name: str, text: str) -> float:
    match = _PERCENT.fullmatch(text)
    if not match or float(match[1]) > 100:
        raise PageError(f"gives {_shown(text)} as {name}, but a share from 0% to 100% is needed")
    return float(match[1]) / 100


def _shown(text: str) -> str:
    """Short, and without what would write to a terminal."""
    return ascii(text if len(text) <= _LONGEST_SHOWN else text[:_LONGEST_SHOWN] + "...")
