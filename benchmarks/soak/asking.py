"""The people of a soak: they ask for forecasts over HTTP, ask again under the same key where no answer comes, and look at what
they get.
"""

from __future__ import annotations

import random
import time
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field

import httpx

from benchmarks.soak.stack import ASKED_INTERVAL, SoakStack
from services.web.situation import Stores
from shared.errors import KronosLiveError
from shared.forecasts import Forecast
from tests.venue_server import SYMBOLS

IN_FLIGHT = 8  # asked for at a time
ANSWERS_WITHIN_S = 15
ASKS_AGAIN_AFTER_S = 0.3
LOST_AFTER_S = 240  # more than any fault of the soak lasts, a lost worker's half minute and the others' work together


@dataclass
class Ask:
    """One wish, whose seed is nobody else's; `forecast_id` once it was accepted."""

    key: str
    wishes: dict[str, object]
    since: float
    forecast_id: str | None = None


@dataclass
class Answers:
    """What has become of the wishes."""

    made: list[str] = field(default_factory=list)  # ids of forecasts that came, as they were asked for
    lost: list[str] = field(default_factory=list)  # what became of each that did not
    mislabelled: list[str] = field(default_factory=list)  # what is wrong with each that is not what was asked for

    @property
    def ended(self) -> int:
        return len(self.made) + len(self.lost)


def ask_for(stack: SoakStack, rng: random.Random, wanted: int) -> Iterator[Answers]:
    """Ask for so many forecasts, a few at a time; gives the answers so far again and again, until all have ended."""
    stores, answers, waiting = stack.stores, Answers(), deque[Ask]()
    with httpx.Client(base_url=stack.address, timeout=ANSWERS_WITHIN_S, trust_env=False) as web:
        asked = 0
        while answers.ended < wanted:
            while len(waiting) < IN_FLIGHT and asked < wanted:
                asked += 1
                waiting.append(_wish(rng, asked))
            for ask in list(waiting):
                if ask.forecast_id is None:
                    _send(web, ask)
                if _has_ended(stores, ask, answers):
                    waiting.remove(ask)
            yield answers
            time.sleep(0.05)


def _wish(rng: random.Random, number: int) -> Ask:
    wishes: dict[str, object] = {
        "symbol": rng.choice(SYMBOLS),
        "interval": str(ASKED_INTERVAL),
        "horizon": rng.choice((6, 12, 24)),
        "num_samples": rng.choice((4, 8, 12)),
        "seed": number,
    }
    return Ask(f"soak-{number}", wishes, time.monotonic())


def _send(web: httpx.Client, ask: Ask) -> None:
    """As any program would that wants its answer: once more where something is wrong for a while."""
    try:
        answer = web.post("/api/v1/forecasts", json=ask.wishes, headers={"Idempotency-Key": ask.key})
    except httpx.TransportError:
        time.sleep(ASKS_AGAIN_AFTER_S)
        return
    if answer.status_code in (200, 202):
        ask.forecast_id = str(answer.json()["id"])
    elif answer.status_code in (409, 429, 503):  # under way by an earlier request, too many, or no Redis
        time.sleep(ASKS_AGAIN_AFTER_S)
    else:
        raise RuntimeError(f"{ask.wishes} was answered with {answer.status_code}: {answer.text[:500]}")


def _has_ended(stores: Stores, ask: Ask, answers: Answers) -> bool:
    try:
        if ask.forecast_id and stores.forecasts.exists(ask.forecast_id):
            answers.mislabelled += _differences(ask, stores.forecasts.load(ask.forecast_id))
            answers.made.append(ask.forecast_id)
            return True
    except KronosLiveError:
        return False  # Redis is away; later
    if time.monotonic() - ask.since < LOST_AFTER_S:
        return False
    told = "it was never accepted"
    with suppress(KronosLiveError):
        told = str(stores.queue.status(ask.forecast_id)) if ask.forecast_id else told
    answers.lost.append(f"{ask.key} {ask.forecast_id}: {told}")
    return True


def _differences(ask: Ask, forecast: Forecast) -> list[str]:
    made, by = forecast.request, forecast.provenance
    got = {
        "symbol": made.symbol,
        "interval": str(made.interval),
        "horizon": made.horizon,
        "num_samples": made.num_samples,
        "seed": made.seed,
        "venue": by.venue,
        "origin": by.origin,
    }
    expected = {**ask.wishes, "venue": "binance", "origin": "live"}
    return [f"{forecast.id} is {got}, not {expected}"] if got != expected else []
