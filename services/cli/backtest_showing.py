"""A backtest as a terminal shows it: progress bars with the time left, on standard error, and the record as tables."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from shared import record_tables as tables
from shared.backtest_queue import Line
from shared.track_record import TrackRecord


@dataclass
class Bar:
    """One bar, and the words before it."""

    _progress: Progress
    _task: TaskID
    _title: str

    def done(self, count: int) -> None:
        self._progress.update(self._task, completed=count)

    def say(self, words: str) -> None:
        """Beside the title, until something else is said."""
        self._progress.update(self._task, description=f"{self._title} {words}".strip())


@contextmanager
def progress_bar(title: str, total: int) -> Iterator[Bar]:
    progress = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    )
    with progress:
        yield Bar(progress, progress.add_task(title, total=total), title)


def warnings_of(record: TrackRecord, lines: Sequence[Line], gaps: str | None) -> list[str]:
    """What a reader must know first."""
    found = [gaps] if gaps else []
    made_by = lines[0].forecast.provenance
    if made_by.model_stands_in_for:
        found.append(
            f"{made_by.model.name} stands in for {made_by.model_stands_in_for}: {made_by.model_stands_in_because}"
        )
    if len({line.forecast.provenance.dtype for line in lines}) > 1:
        found.append("Workers made these forecasts in different dtypes, so another run need not give the same ones.")
    if record.seen_in_training:
        found.append(
            f"{record.seen_in_training} of the {record.forecasts} forecasts are of a time that the model may have been "
            f"trained on, so their scores flatter it."
        )
    return found


def show_record(record: TrackRecord, title: str, warnings: Sequence[str], closing: Sequence[str]) -> None:
    console = Console(width=max(100, Console().width))
    console.print(f"\n[bold]{title}[/bold], {record.forecasts} forecasts")
    for warning in warnings:
        console.print(f"[yellow]{warning}[/yellow]")
    console.print(tables.headline(record))
    for head, rows in (tables.baseline_rows(record), tables.coverage_rows(record), tables.event_rows(record)):
        table = Table(*head)
        for row in rows:
            table.add_row(*row)
        console.print(table)
    for sentence in closing:
        console.print(sentence)
