"""`python -m tests.parity DIR [DIR...]`: how far our numbers are from the reference's, one JSON object a line."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch

from tests.parity.cases import Case, differences


def main(folders: list[str]) -> None:
    if not folders:
        sys.exit("usage: python -m tests.parity DIR [DIR...]   (each laid out like tests/parity/golden/*)")
    torch.set_num_threads(1)  # cases are small: threads would only wait for each other
    for folder in map(Path, folders):
        if folder.is_file():
            print(f"{folder} is a file, not a case: left out", file=sys.stderr)  # as golden/* also names its README
            continue
        if not (folder / "case.json").exists():
            sys.exit(f"{folder} is no case: it has no case.json")
        print(json.dumps(differences(Case.read(folder))), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
