"""The forecasts of a backtest, made by the very forecaster that serves, and kept as they come so that a run can go on.

A folder holds one line for each origin, in the order in which they were finished; each is written whole or not at all.
Nothing here depends on what was forecast before: that is for `walk`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context, parent_process
from pathlib import Path
from threading import Thread

import numpy as np

from services.inference.backtest.origins import Origin
from services.inference.forecaster import Forecaster, Task
from services.inference.memory import keep_freed_memory
from services.inference.processors import cores_available
from services.inference.scorekeeper import Outcome, enter
from services.inference.scoring.verdict import score_forecast
from shared.contract import Contract
from shared.errors import RequestError
from shared.forecasts import Forecast, ForecastOverrides, build_request, seed_of
from shared.klines import CLOSE
from shared.ledger import LedgerEntry
from shared.settings import Settings

LINES, PLAN = "forecasts.jsonl", "plan.json"
AHEAD = 4  # origins handed out beyond those that are worked on


class Line(Contract):
    """One forecast, and its entry as it would stand in a ledger before any recalibration."""

    forecast: Forecast
    entry: LedgerEntry


@dataclass(frozen=True)
class Plan:
    """What a folder's lines are forecasts of: only a run of the same plan may go on with them."""

    described: dict[str, object]

    def check(self, folder: Path) -> None:
        """Write the plan into a new folder. Raises RequestError where another run's forecasts lie there."""
        folder.mkdir(parents=True, exist_ok=True)
        file, ours = folder / PLAN, json.dumps(self.described, indent=2, sort_keys=True)
        if not file.exists():
            file.write_text(ours + "\n")
            return
        theirs = json.loads(file.read_text())
        for name, value in self.described.items():
            if theirs.get(name) != value:
                raise RequestError(
                    f"'{folder}' holds a backtest with {name} {theirs.get(name)!r}, not {value!r}: choose another folder, "
                    f"or delete it to begin anew."
                )


def run(
    origins: Sequence[Origin],
    wishes: ForecastOverrides,
    settings: Settings,
    folder: Path,
    jobs: int,
    tell: Callable[[int], None],
) -> list[Line]:
    """Forecast from every origin that the folder does not hold yet, in `jobs` processes; `tell` hears after each how many
    are there. Returns all lines in time. Raises KronosLiveError as the forecaster does.
    """
    lines = {line.forecast.id: line for line in read_lines(folder)}
    waiting = [origin for origin in origins if forecast_id(origin) not in lines]
    tell(len(lines))
    with (folder / LINES).open("a", encoding="utf-8") as file:
        for line in _forecasts(waiting, wishes, settings, jobs):
            file.write(line.model_dump_json() + "\n")
            file.flush()
            os.fsync(file.fileno())
            lines[line.forecast.id] = line
            tell(len(lines))
    return [lines[forecast_id(origin)] for origin in origins]


def read_lines(folder: Path) -> list[Line]:
    """What is there; a last line that a killed run left unfinished is cut off."""
    file = folder / LINES
    if not file.exists():
        return []
    whole, _, rest = file.read_bytes().rpartition(b"\n")
    if rest:
        file.write_bytes(whole + b"\n" if whole else b"")
    return [Line.model_validate_json(line) for line in whole.splitlines()]


def forecast_id(origin: Origin) -> str:
    known = origin.known
    moment = np.datetime64(known.last_open_time_ms, "ms").astype("datetime64[s]")
    return f"backtest-{known.symbol}-{known.interval}-{str(moment).replace('-', '').replace(':', '')}Z"


def _forecasts(origins: Sequence[Origin], wishes: ForecastOverrides, settings: Settings, jobs: int) -> Iterator[Line]:
    if jobs == 1:
        _begin(settings, cores_available())
        for origin in origins:
            yield _forecast(origin, wishes, settings)
        return
    with _processes(settings, jobs) as pool:
        left, running = iter(origins), set[Future[Line]]()
        while True:
            for origin in left:
                running.add(pool.submit(_forecast, origin, wishes, settings))
                if len(running) >= jobs + AHEAD:
                    break
            if not running:
                return
            done, running = wait(running, return_when=FIRST_COMPLETED)
            for one in done:
                yield one.result()


@contextmanager
def _processes(settings: Settings, jobs: int) -> Iterator[ProcessPoolExecutor]:
    threads = max(1, cores_available() // jobs)
    pool = ProcessPoolExecutor(jobs, get_context("spawn"), _begin_beside, (settings, threads))
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


_forecaster: Forecaster | None = None


def _begin_beside(settings: Settings, threads: int) -> None:
    """Once in each process of a pool; it ends with the process that started it, which may be killed."""
    Thread(target=_end_with_parent, daemon=True).start()
    _begin(settings, threads)


def _end_with_parent() -> None:
    parent = parent_process()
    assert parent is not None  # noqa: S101 - a pool's process has one
    parent.join()
    os._exit(1)


def _begin(settings: Settings, threads: int) -> None:
    """Load the model."""
    global _forecaster  # noqa: PLW0603 - a pool's process keeps what it loaded
    keep_freed_memory()
    _forecaster = Forecaster(settings)
    _forecaster.use_threads(threads)


def _forecast(origin: Origin, wishes: ForecastOverrides, settings: Settings) -> Line:
    assert _forecaster is not None  # noqa: S101 - _begin ran before
    known, name = origin.known, forecast_id(origin)
    own = wishes.model_copy(update={"symbol": known.symbol, "interval": known.interval})
    request = build_request(settings, own, known.content_hash()[:16], scheduled=False, seed=seed_of(name))
    made = _forecaster.forecast(Task(name, request, known), lambda *_: None)
    scores = score_forecast(made.forecast, made.paths, made.baseline_draws, origin.outcome, known.values[:, CLOSE])
    closed_ms = made.forecast.open_times_ms[-1] + known.interval.ms
    return Line(
        forecast=made.forecast,
        entry=enter(made.forecast, Outcome(origin.outcome, False, None), scores, "backtest", closed_ms),
    )
