"""What a training run has reported, one line of JSON each, beside its checkpoint. A run that goes on cuts off what it repeats."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from services.inference.training.optimisation import Progress, Report

LOG_FILE = "training_log.jsonl"


class TrainingLog:
    def __init__(self, file: Path) -> None:
        self._file = file
        self._begun = False

    def report(self, progress: Progress) -> None:
        if not self._begun:
            self._cut_off(progress)
            self._begun = True
        line = {name: value for name, value in asdict(progress).items() if value not in (None, {})}
        del line["seconds_left"]
        with self._file.open("a", encoding="utf-8") as log:
            log.write(json.dumps(line) + "\n")

    def _cut_off(self, first: Progress) -> None:
        """Lines of steps from the first that is reported now on."""
        self._file.parent.mkdir(parents=True, exist_ok=True)
        lines = self._file.read_text(encoding="utf-8").splitlines() if self._file.exists() else []
        kept = [line for line in lines if json.loads(line)["step"] < first.step]
        self._file.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")


def both(*reports: Report) -> Report:
    """Tell all of them."""

    def tell(progress: Progress) -> None:
        for report in reports:
            report(progress)

    return tell
