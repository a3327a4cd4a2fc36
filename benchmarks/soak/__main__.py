"""`python -m benchmarks.soak`: thousands of forecasts on a stack of real processes while faults strike it at random.

Two ingests, two workers and web on a Redis of their own, with tiny random models and a scripted venue, all on this machine
alone. People ask for forecasts over HTTP while the schedule makes its own each minute. From a seed workers and ingests are
killed, Redis hangs, fills up and dies, connections break, the venue fails. In the end every forecast that was accepted, and
every candle, must have been made, once, as it was asked for, and the processes that nobody killed must not have grown.
Ends with 1 where that is not so.
"""

from __future__ import annotations

import json
import random
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import click

from benchmarks.soak.asking import Answers, ask_for
from benchmarks.soak.faults import Faults
from benchmarks.soak.memory import MemoryBook
from benchmarks.soak.stack import SoakStack, soak_stack
from benchmarks.soak.verdict import Verdict, judge, newest_candles
from shared.errors import KronosLiveError
from tests.processes import eventually

TELLS_EVERY_S = 10.0
NOTES_MEMORY_EVERY_S = 2.0
BEGINS_WITHIN_S = 5.0  # ingest's step from a new candle to its forecast in the queue
ENDS_WITHIN_S = 240
SHORTEST_FOR_MEMORY = 1000  # forecasts: before, a process still makes what it makes once


@dataclass(frozen=True)
class Summary:
    seed: int
    seconds: float
    verdict: Verdict
    faults: dict[str, int]
    down: list[str]
    memory_mib: dict[str, float]
    memory_growth_percent: dict[str, float]

    def is_good(self, most_growth: float | None) -> bool:
        """`most_growth` in %; none where the run was too short to judge it."""
        grown = max(self.memory_growth_percent.values(), default=0.0)
        wrong = self.verdict.lost or self.verdict.doubled or self.verdict.mislabelled or self.down
        return not wrong and (most_growth is None or grown <= most_growth)


@click.command(help=__doc__)
@click.option("--forecasts", default=3000, type=click.IntRange(1), show_default=True, help="that people ask for")
@click.option("--seed", default=1, show_default=True, help="of the faults and of what is asked for")
@click.option("--most-growth", default=2.0, show_default=True, help="of resident memory, in %, from 1,000 forecasts on")
@click.option("--folder", type=click.Path(path_type=Path, file_okay=False), help="keep the logs of all processes there")
@click.option("--json", "as_json", is_flag=True)
def main(forecasts: int, seed: int, most_growth: float, folder: Path | None, as_json: bool) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        kept_in = folder or Path(temporary)
        kept_in.mkdir(parents=True, exist_ok=True)
        summary = soak(kept_in, forecasts, seed)
    click.echo(json.dumps(asdict(summary), indent=2) if as_json else _in_words(summary))
    if not summary.is_good(most_growth if forecasts >= SHORTEST_FOR_MEMORY else None):
        raise SystemExit(1)


def soak(folder: Path, forecasts: int, seed: int) -> Summary:
    """Run it; what the processes log is kept in the folder."""
    began, memory = time.monotonic(), MemoryBook()
    with soak_stack(folder) as stack:
        faults = Faults(stack, random.Random(f"faults {seed}"))  # noqa: S311 - nothing is kept secret by it
        faults.start()
        try:
            answers = _until_all_ended(stack, faults, memory, forecasts, seed)
        finally:
            faults.end()
        candles = newest_candles(stack)
        time.sleep(BEGINS_WITHIN_S)
        eventually(lambda: _is_idle(stack), ENDS_WITHIN_S, stack.kept["worker"].log)
        memory.note(1.0, stack.kept)
        down = [name for name, one in stack.kept.items() if one.process.poll() is not None]
        verdict = judge(stack, answers, candles)
    return Summary(
        seed=seed,
        seconds=round(time.monotonic() - began),
        verdict=verdict,
        faults=dict(faults.struck),
        down=down,
        memory_mib=memory.last_mib(),
        memory_growth_percent=memory.growth_percent(),
    )


def _until_all_ended(stack: SoakStack, faults: Faults, memory: MemoryBook, forecasts: int, seed: int) -> Answers:
    began = time.monotonic()
    next_note, next_told, answers = began, began + TELLS_EVERY_S, Answers()
    wishes = random.Random(f"wishes {seed}")  # noqa: S311
    for answers in ask_for(stack, wishes, forecasts):
        now = time.monotonic()
        if faults.error:
            raise faults.error
        if now >= next_note:
            memory.note(answers.ended / forecasts, stack.kept)
            next_note = now + NOTES_MEMORY_EVERY_S
        if now >= next_told:
            click.echo(_progress(answers, forecasts, now - began, faults), err=True)
            next_told = now + TELLS_EVERY_S
    return answers


def _progress(answers: Answers, forecasts: int, gone_s: float, faults: Faults) -> str:
    left = "" if not answers.ended else f", {_clock(gone_s * (forecasts / answers.ended - 1))} left"
    struck = faults.struck.total()
    return (
        f"{answers.ended:,} of {forecasts:,} forecasts, {_clock(gone_s)} gone{left}; lost {len(answers.lost)}, "
        f"mislabelled {len(answers.mislabelled)}; {struck} faults, now: {faults.last}"
    )


def _is_idle(stack: SoakStack) -> bool:
    """No forecast waits or runs, and no job of scoring does."""
    try:
        overview = stack.stores.queue.overview(time.time_ns() // 1_000_000)
    except KronosLiveError:
        return False
    return not overview.waiting and not overview.running


def _in_words(summary: Summary) -> str:
    verdict = summary.verdict
    lines = [
        f"{verdict.forecasts:,} forecasts in {_clock(summary.seconds)}, seed {summary.seed}: lost {len(verdict.lost)}, "
        f"doubled {len(verdict.doubled)}, mislabelled {len(verdict.mislabelled)}.",
        *(f"  lost: {one}" for one in verdict.lost),
        *(f"  doubled: {one}" for one in verdict.doubled),
        *(f"  mislabelled: {one}" for one in verdict.mislabelled),
        *(f"  is down: {one}" for one in summary.down),
        f"{sum(summary.faults.values())} faults:",
        *(f"  {times:4} times {fault}" for fault, times in sorted(summary.faults.items())),
        "Memory of those that nobody killed, and its growth from the second fifth of the run to the last:",
    ]
    for name, mib in summary.memory_mib.items():
        growth = summary.memory_growth_percent.get(name)
        told = "too short to tell" if growth is None else f"{growth:+.1f} %"
        lines.append(f"  {name:8} {mib:6.0f} MiB  {told}")
    return "\n".join(lines)


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02}"


if __name__ == "__main__":
    main()
