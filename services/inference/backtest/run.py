"""The forecasts of a backtest, kept as they come so that a run can go on.

A folder holds one line for each origin, in the order in which they were finished; each is written whole or not at all.
Who makes them is handed in: processes of this machine (`local`), or workers (`spread`). Nothing here depends on what was
forecast before: that is for `walk`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
from pydantic import ValidationError

from services.inference.backtest.origins import Origin
from shared.backtest_queue import Line, Moment
from shared.errors import RequestError
from shared.forecasts import ForecastOverrides, build_request, seed_of
from shared.settings import Settings

LINES, PLAN = "forecasts.jsonl", "plan.json"

# Makes the lines of moments, in the order in which they are finished; closed where nobody wants any more.
Maker = Callable[[Sequence[Moment]], Generator[Line, None, None]]


def check_plan(described: Mapping[str, object], folder: Path) -> None:
    """Only a run of the same plan may go on with a folder's lines. Raises RequestError where another's lie there."""
    file = folder / PLAN
    try:
        theirs = json.loads(file.read_text()) if file.exists() else described
    except ValueError:
        raise RequestError(
            f"'{file}' cannot be read: choose another folder, or delete this one to begin anew."
        ) from None
    for name, value in described.items():
        if theirs.get(name) != value:
            raise RequestError(
                f"'{folder}' holds a backtest with {name} {theirs.get(name)!r}, not {value!r}: choose another folder, or "
                f"delete it to begin anew."
            )


def keep_plan(described: Mapping[str, object], folder: Path) -> None:
    """Note in a folder what its lines will be forecasts of."""
    folder.mkdir(parents=True, exist_ok=True)
    draft = folder / f"{PLAN}.draft"
    draft.write_text(json.dumps(described, indent=2, sort_keys=True) + "\n")
    draft.replace(folder / PLAN)


def run(
    origins: Sequence[Origin],
    wishes: ForecastOverrides,
    settings: Settings,
    folder: Path,
    make: Maker,
    tell: Callable[[int], None],
) -> list[Line]:
    """Have a forecast made from every origin that the folder does not hold yet; `tell` hears after each how many are
    there. Returns all lines in time. Raises KronosLiveError as `make` does.
    """
    there = {line.forecast.id: line for line in read_lines(folder)}
    moments = [moment_of(origin, wishes, settings) for origin in origins]
    lines = {one.forecast_id: there[one.forecast_id] for one in moments if one.forecast_id in there}
    if any(lines[one.forecast_id].forecast.request != one.request for one in moments if one.forecast_id in lines):
        raise RequestError(
            f"'{folder}' holds forecasts that were asked for otherwise, or of other klines: choose another folder, or delete "
            f"it to begin anew."
        )
    waiting = [one for one in moments if one.forecast_id not in lines]
    tell(len(lines))
    with (folder / LINES).open("a", encoding="utf-8") as file, closing(make(waiting)) as made:
        for line in made:
            if line.forecast.id in lines:
                continue
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
    try:
        return [Line.model_validate_json(line) for line in whole.splitlines()]
    except ValidationError:
        raise RequestError(
            f"'{file}' holds what another version wrote, or somebody changed: choose another folder, or delete it."
        ) from None


def forecast_id(origin: Origin) -> str:
    known = origin.known
    moment = np.datetime64(known.last_open_time_ms, "ms").astype("datetime64[s]")
    return f"backtest-{known.symbol}-{known.interval}-{str(moment).replace('-', '').replace(':', '')}Z"


def moment_of(origin: Origin, wishes: ForecastOverrides, settings: Settings) -> Moment:
    """What is asked at an origin, whoever computes it: the seed hangs on the moment alone."""
    known, name = origin.known, forecast_id(origin)
    own = wishes.model_copy(update={"symbol": known.symbol, "interval": known.interval})
    request = build_request(settings, own, known.content_hash()[:16], scheduled=False, seed=seed_of(name))
    return Moment(name, request, known, origin.outcome.tolist())
