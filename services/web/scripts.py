"""Which scripts a page's own script imports, itself or through others: told beforehand, so that a browser far away need not
find them out file by file.
"""

from __future__ import annotations

import re
from pathlib import Path

STATIC = Path(__file__).parent / "static"
IMPORTED = re.compile(r'^import [^"]*"\./(\w+\.js)";$', re.MULTILINE)


def modules_of(script: str) -> list[str]:
    """By name; the script itself is left out."""
    found: set[str] = set()
    waiting = [script]
    while waiting:
        imported = set(IMPORTED.findall((STATIC / waiting.pop()).read_text(encoding="utf-8"))) - found
        found |= imported
        waiting += imported
    return sorted(found)
