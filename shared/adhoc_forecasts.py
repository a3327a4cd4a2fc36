"""A forecast that a person asks for: their wishes checked against what can be had, then put in the queue, or cancelled.

One story for the API and the command line, so that both refuse the same things in the same words.
"""

from __future__ import annotations

import json
import reprlib
import secrets
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from pydantic import ValidationError

from shared.errors import AlreadyEndedError, NotFoundError, QueueFullError, RequestError
from shared.fetches import Fetch
from shared.forecast_queue import Asked, ForecastQueue, Wanted
from shared.forecast_store import ForecastStore
from shared.forecasts import LONGEST_HORIZON, SEED_LIMIT, ForecastOverrides, JobStatus, adhoc_forecast_id, build_request
from shared.kline_store import KlineStore
from shared.setting_kinds import describe_allowed
from shared.settings import SHORTEST_HISTORY, Settings, longest_horizon
from shared.uploaded_klines import describe_candle_problem, read_csv, uploaded_window
from shared.wanted_klines import newest_snapshot_or_fetch, refuse_what_nobody_fetches


@dataclass(frozen=True)
class Bounds:
    """What a whole number may be here, what it counts, and the knob that sets its end."""

    least: int
    most: int
    unit: str
    knob: str | None = None

    def in_words(self) -> str:
        knob = f" ({self.knob})" if self.knob else ""
        return f"a whole number of {self.unit} from {self.least} to {self.most}{knob}"


def read_wishes(settings: Settings, values: object) -> ForecastOverrides:
    """Turn decoded JSON into wishes. Raises RequestError that names the first wrong field, its value and what is allowed."""
    # Half a character (a lone surrogate) fits no field; replaced, it reaches its field, which then is named.
    text = json.dumps(values, ensure_ascii=False).encode(errors="replace")
    try:
        wishes = ForecastOverrides.model_validate_json(text, strict=True)  # true is not 1, nor is "1"
    except ValidationError as error:
        raise _not_understood(settings, values, error) from None
    for name, bounds in _bounds(settings).items():
        wish = getattr(wishes, name)
        if wish is not None and not bounds.least <= wish <= bounds.most:
            raise _out_of_range(settings, name, wish)
    return wishes


def read_csv_wishes(settings: Settings, text: str, values: Mapping[str, str]) -> ForecastOverrides:
    """The wishes for a forecast on candles of CSV; `values` are all others, as text. Raises RequestError as
    `read_wishes` does.
    """
    if "klines" in values:
        raise RequestError(
            "klines is given as a parameter, but allowed is the body alone: leave it out.", field="klines"
        )
    numeric = set(ForecastOverrides.model_fields) - {"symbol", "symbols", "interval", "model", "klines"}
    others = {name: _number(value) if name in numeric else value for name, value in values.items()}
    return read_wishes(settings, {**others, "klines": read_csv(text)})


def _number(text: str) -> object:
    """What JSON would have in its place; what is no number stays text, and its field is then named."""
    try:
        return json.loads(text, parse_constant=lambda name: name)
    except ValueError:
        return text


def ask_for_forecasts(
    settings: Settings,
    klines: KlineStore,
    forecasts: ForecastStore,
    queue: ForecastQueue,
    wishes: ForecastOverrides,
    now_ms: int,
) -> list[Asked]:
    """Enqueue a forecast of each symbol, or one on the klines that were sent; `now_ms` is UTC ms. Each is made on its
    series' newest snapshot, or, where nobody ingests that, on klines that are fetched for it first (`wanted_klines`).
    Returns them in the order of the symbols. All are enqueued or none.

    What waits, runs or is finished on the same snapshot with the same wishes stands for what is asked: the same seed
    would give the same paths, and who names none asks for any draw. Another draw is to be had by naming a seed.

    Raises UnknownSeriesError or RequestError where klines can be had by neither way, QueueFullError.
    """
    wanted = [
        Wanted(
            adhoc_forecast_id(),
            build_request(settings, wish, snapshot_id, scheduled=False, seed=secrets.randbelow(SEED_LIMIT)),
            names_seed=wishes.seed is not None,
            fetch=fetch,
        )
        for wish, snapshot_id, fetch in _on_klines(settings, klines, wishes, now_ms)
    ]
    field = "symbol" if wishes.symbols is None else "symbols"

    def is_of_use(forecast_id: str) -> bool:
        with suppress(NotFoundError):
            return forecasts.exists(forecast_id) or queue.status(forecast_id).state in ("queued", "running")
        return False

    def check(new: Sequence[Wanted], to_fetch: Sequence[Fetch]) -> None:
        refuse_what_nobody_fetches(settings, klines, queue.fetches, to_fetch, field, now_ms)
        _refuse_beyond_limit(settings, queue, len(new))

    return queue.enqueue_many(wanted, is_of_use, check)


def _refuse_beyond_limit(settings: Settings, queue: ForecastQueue, more: int) -> None:
    waiting, most = queue.waiting(), settings.limits.max_queued
    if more and waiting + more > most:
        raise QueueFullError(
            f"{waiting} forecasts wait already, and {more} more would be over the {most} that may "
            f"(limits.max_queued): {'ask for fewer symbols or ' if more > 1 else ''}try again later."
        )


def cancel_forecast(forecasts: ForecastStore, queue: ForecastQueue, forecast_id: str) -> JobStatus:
    """Cancel a forecast that waits or runs (`ForecastQueue.cancel`). Raises NotFoundError, AlreadyEndedError."""
    if forecasts.exists(forecast_id):  # the queue need not know of it any more
        raise AlreadyEndedError(f"Forecast {forecast_id} is finished and can no longer be cancelled.")
    return queue.cancel(forecast_id)


def _on_klines(
    settings: Settings, klines: KlineStore, wishes: ForecastOverrides, now_ms: int
) -> list[tuple[ForecastOverrides, str, Fetch | None]]:
    """The wishes for each forecast, with the snapshot that it is to be made on, or the fetch that is to bring it."""
    if wishes.klines is not None:
        return [(*_on_uploaded(settings, klines, wishes, now_ms), None)]
    wanted = [(wish, newest_snapshot_or_fetch(settings, klines, wish, now_ms)) for wish in wishes.each()]
    return [(wish, "", one) if isinstance(one, Fetch) else (wish, one, None) for wish, one in wanted]


def _on_uploaded(
    settings: Settings, klines: KlineStore, wishes: ForecastOverrides, now_ms: int
) -> tuple[ForecastOverrides, str]:
    candles = wishes.klines or ()
    window = uploaded_window(candles, wishes.interval, at_most=settings.limits.max_history, now_ms=now_ms)
    if wishes.history is not None and wishes.history > len(window):
        raise RequestError(
            f"history is {wishes.history}, but klines has only {len(window)} candles: send more or ask for less.",
            field="history",
        )
    history = wishes.history or min(settings.data.history_window, len(window))
    spelled_out = {"symbol": window.symbol, "interval": window.interval, "history": history}
    return wishes.model_copy(update=spelled_out), klines.save(window)


def _not_understood(settings: Settings, values: object, error: ValidationError) -> RequestError:
    """The first problem of a validation, in words."""
    problem = error.errors()[0]
    name = str(problem["loc"][0]) if problem["loc"] else ""
    fields = ForecastOverrides.model_fields
    if not isinstance(values, dict):
        return RequestError(f"A request must be a JSON object; what can be set is {', '.join(fields)}.")
    if problem["type"] == "value_error":
        return RequestError(str(problem["ctx"]["error"]), field="klines" if "klines" in values else "symbols")
    if name not in fields:
        return RequestError(
            f"{reprlib.repr(name)} is not something to ask for; what can be set is {', '.join(fields)}.", field=name
        )
    if name == "symbols" and len(problem["loc"]) > 1:
        which = f"symbols[{problem['loc'][1]}]"
        allowed = ForecastOverrides.model_fields["symbol"].description
        return RequestError(f"{which} is {reprlib.repr(problem['input'])}, but allowed is {allowed}.", field=name)
    if name == "klines" and len(problem["loc"]) > 1:
        return RequestError(describe_candle_problem(problem), field=name)
    return _out_of_range(settings, name, values[name])


def _out_of_range(settings: Settings, name: str, value: object) -> RequestError:
    bounds = _bounds(settings)
    allowed = bounds[name].in_words() if name in bounds else describe_allowed(ForecastOverrides.model_fields[name])
    return RequestError(f"{name} is {reprlib.repr(value)}, but allowed is {allowed}.", field=name)


def _bounds(settings: Settings) -> dict[str, Bounds]:
    """The bounds that hold with these settings, where they are narrower than any server could allow."""
    limits, model = settings.limits, settings.model
    longest = longest_horizon(model.max_context, model.overflow)
    return {
        "horizon": Bounds(1, longest, "candles", "model.max_context")
        if longest < LONGEST_HORIZON
        else Bounds(1, LONGEST_HORIZON, "candles"),
        "history": Bounds(SHORTEST_HISTORY, limits.max_history, "candles", "limits.max_history"),
        "num_samples": Bounds(1, limits.max_num_samples, "paths", "limits.max_num_samples"),
    }
