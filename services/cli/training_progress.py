"""How far a training is: a bar with the time left, and its losses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn


class TrainingProgress:
    """One bar for each part that is trained, on standard error; where that is no terminal, a line for each validation."""

    def __init__(self) -> None:
        self._console = Console(stderr=True, highlight=False)
        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[told]}"),
            console=self._console,
        )

    def __enter__(self) -> TrainingProgress:
        if self._console.is_terminal:
            self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    def tell(self, part: str) -> Callable[[Any], None]:
        bar = self._bars.add_task(part, total=None, told="")
        losses: dict[str, float] = {}

        def report(progress: Any) -> None:
            for name in ("loss", "validation", "best"):
                if (value := getattr(progress, name)) is not None:
                    losses[name] = value
            told = "  ".join(f"{name} {value:.4f}" for name, value in losses.items())
            if progress.seconds_left >= 0:  # not known before the first step
                told = f"{_time(progress.seconds_left)} left  {told}"
            self._bars.update(bar, total=progress.steps, completed=progress.step, told=told)
            if not self._console.is_terminal and progress.validation is not None:
                self._console.print(f"{part} {progress.step}/{progress.steps}  {told}", soft_wrap=True)

        return report


def say(sentence: str) -> None:
    """Beside the bars, for people."""
    Console(stderr=True, highlight=False, soft_wrap=True).print(sentence)


def _time(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}"
