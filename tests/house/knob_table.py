"""README's table of knobs, made from config/config.yaml: `python -m tests.house.knob_table` writes it there, and into the
Chinese README.
"""

from __future__ import annotations

import re
from pathlib import Path

from shared.settings import DEFAULT_CONFIG
from tests.conftest import PROJECT

READMES = (PROJECT / "README.md", PROJECT / "README.zh-CN.md")
BEGIN, END = "<!-- knobs -->", "<!-- /knobs -->"


def knob_table() -> str:
    """One row for each knob: name, default and what the configuration says of it."""
    rows, sections = ["| knob | default | meaning |", "|---|---|---|"], [""]
    for line in DEFAULT_CONFIG.read_text().splitlines():
        depth = (len(line) - len(line.lstrip())) // 2
        if heading := re.fullmatch(r" *(\w+):", line):
            sections = [*sections[:depth], heading[1]]
        elif knob := re.fullmatch(r" +(\w+): (.*?)\s+# (.*?) ?\[KRONOS_[^\]]*\]", line):
            name, default, meaning = knob.groups()
            section = ".".join(sections[:depth])
            rows.append(f"| `{section}.{name}` | `{default}` | {meaning.replace('|', '&#124;')} |")
    return "\n".join(rows)


def written_table(readme: Path) -> str:
    return readme.read_text().split(BEGIN)[1].split(END)[0].strip()


def main() -> None:
    for readme in READMES:
        text = readme.read_text()
        before, after = text.split(BEGIN)[0], text.split(END)[1]
        readme.write_text(f"{before}{BEGIN}\n{knob_table()}\n{END}{after}")


if __name__ == "__main__":
    main()
