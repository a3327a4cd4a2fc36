"""What documents are made of, for tests that they are true: code, headings, table cells and links."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from itertools import dropwhile, groupby
from pathlib import Path

FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_INLINE = re.compile(r"`([^`\n]+)`")
_LINK = re.compile(r"\]\(([^)\s]+)\)|(?:src|href)=\"([^\"]+)\"")
_ASSIGNED = re.compile(r"[A-Z_]+=")
_ENDS = {"|", "||", "&&", ";", ">", "<"}


def code_blocks(text: str) -> list[tuple[str, str]]:
    """Language and content of each, in their order."""
    return FENCE.findall(text)


def prose(text: str) -> str:
    """All but the code blocks."""
    return FENCE.sub("", text)


def headings(text: str) -> list[int]:
    """The level of each, in their order."""
    return [len(one) for one in re.findall(r"^(#+) ", prose(text), re.MULTILINE)]


def inline_code(text: str) -> list[str]:
    return _INLINE.findall(prose(text))


def links(text: str) -> list[str]:
    """Where its links and pictures lead."""
    return [one or other for one, other in _LINK.findall(prose(text))]


def commands(text: str, program: str) -> Iterator[list[str]]:
    """The words of each call of a program, in blocks and in the text, up to what a shell would end it at."""
    lines = [line for _, block in code_blocks(text) for line in block.replace("\\\n", " ").splitlines()]
    for line in [*lines, *inline_code(text)]:
        yield from _calls(line, program)


def _calls(line: str, program: str) -> Iterator[list[str]]:
    try:
        words = shlex.split(line, comments=True)
    except ValueError:  # a piece of something else than a shell's line
        return
    for ended, piece in groupby(words, _ENDS.__contains__):
        call = list(dropwhile(_ASSIGNED.match, piece))
        if not ended and call and call[0].rpartition("/")[2] == program:
            yield call[1:]


def table_rows(text: str) -> list[list[str]]:
    """The cells of each row of a table."""
    return [
        [cell.strip() for cell in line.strip().strip("|").split("|")]
        for line in prose(text).splitlines()
        if line.startswith("|")
    ]


def targets(makefile: Path) -> set[str]:
    return set(re.findall(r"^([a-z-]+):", makefile.read_text(), re.MULTILINE))
