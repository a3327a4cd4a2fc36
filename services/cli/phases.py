"""The phases of a run as they are announced on standard error: each when it begins, and how long it took when it has ended."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn


class Phases:
    """Keeps the seconds of each phase, by its name."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._console = Console(stderr=True, highlight=False, soft_wrap=True, markup=False)

    @contextmanager
    def announce(self, name: str) -> Iterator[_Shown]:
        """A phase, which takes as long as what is within."""
        began = perf_counter()
        self._console.print(f"{name} ...")
        shown = _Shown(name, self._console)
        try:
            yield shown
        finally:
            shown.close()
        self.seconds[name] = round(perf_counter() - began, 3)
        self._console.print(f"{name}: {shown.words or 'done'} ({self.seconds[name]:.1f} s)")

    def say(self, sentence: str) -> None:
        self._console.print(sentence)


class _Shown:
    """One phase, with a bar once it tells of steps; where standard error is no terminal, the bar is left out."""

    def __init__(self, name: str, console: Console) -> None:
        self.words = ""
        self._name = name
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=console,
            disable=not console.is_terminal,
            transient=True,
        )
        self._task: TaskID | None = None

    def done(self, words: str) -> None:
        self.words = words

    def progress(self, done: int, total: int) -> None:
        if self._task is None:
            self._bar.start()
            self._task = self._bar.add_task(self._name, total=total)
        self._bar.update(self._task, completed=done, total=total)

    def close(self) -> None:
        self._bar.stop()
