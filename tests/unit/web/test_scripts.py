"""The modules that a page tells beforehand are those that its script imports, and theirs."""

from __future__ import annotations

import re

import pytest

from services.web.scripts import STATIC, modules_of


@pytest.mark.parametrize("script", ["page.js", "record.js"])
def test_what_is_imported_by_others_is_told_too(script: str) -> None:
    told = modules_of(script)
    assert script not in told
    imported = {
        name for one in [script, *told] for name in re.findall(r'from "\./(\w+\.js)"', (STATIC / one).read_text())
    }
    assert imported <= set(told)
    assert all((STATIC / one).exists() for one in told)


def test_no_script_is_without_a_page() -> None:
    used = {"page.js", "record.js", "theme.js", *modules_of("page.js"), *modules_of("record.js")}
    assert used == {script.name for script in STATIC.glob("*.js")}
