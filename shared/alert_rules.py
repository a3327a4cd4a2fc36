"""The rules of `alerts.rules`: what somebody wants to be told of, each kind closed, and what is wrong with one, in words.

Rules of a forecast look at each new one of the schedule; rules of the system at how things stand. Whether a rule holds is
for services/alerts.
"""

from __future__ import annotations

import hashlib
from typing import Annotated, Any, Literal, cast, get_args

import yaml
from pydantic import BeforeValidator, Field

from shared.klines import Interval
from shared.setting_kinds import Section, SeriesName, describe_allowed

MOST_RULES = 64
LONGEST_COOL_DOWN_S = 604_800

Share = Annotated[float, Field(gt=0, lt=1)]
A_SHARE = "a number above 0 and below 1, as in 0.7"
SERIES = "a symbol and an interval as in BTCUSDT:1h, or left out for each series that ingest keeps up"
NAME = "1 to 80 characters in one line"


class _Rule(Section):
    """What every rule may say: `name` is how messages call it, `cool_down` stands in for alerts.cool_down, in seconds."""

    name: str | None = Field(None, pattern=r"^[^\x00-\x1f]{1,80}$", description=NAME)
    cool_down: int | None = Field(None, ge=0, le=LONGEST_COOL_DOWN_S)

    @property
    def words(self) -> str:
        """The rule in a few words."""
        raise NotImplementedError

    @property
    def title(self) -> str:
        return self.name or self.words

    @property
    def key(self) -> str:
        """The same for the same rule: one that says something else is another. Neither its name nor its cool-down matter."""
        said = self.model_dump_json(exclude={"name", "cool_down"})
        return hashlib.sha256(said.encode()).hexdigest()[:16]


class _SeriesRule(_Rule):
    series: SeriesName | None = Field(None, description=SERIES)

    @property
    def named_series(self) -> tuple[str, Interval] | None:
        if self.series is None:
            return None
        symbol, _, interval = self.series.partition(":")
        return symbol, Interval(interval)


class UpsideAbove(_SeriesRule):
    """More paths than a share end above the last close."""

    when: Literal["upside_above"]
    level: Share = Field(description=A_SHARE)

    @property
    def words(self) -> str:
        return f"upside above {_percent(self.level)}"


class UpsideBelow(_SeriesRule):
    when: Literal["upside_below"]
    level: Share = Field(description=A_SHARE)

    @property
    def words(self) -> str:
        return f"upside below {_percent(self.level)}"


class VolatilityAbove(_SeriesRule):
    """More paths than a share are more volatile than the candles before."""

    when: Literal["volatility_above"]
    level: Share = Field(description=A_SHARE)

    @property
    def words(self) -> str:
        return f"volatility amplification above {_percent(self.level)}"


class BandTouches(_SeriesRule):
    """A price lies within a band of the close at a step or more."""

    when: Literal["band_touches"]
    price: float = Field(gt=0, allow_inf_nan=False, description="a number above 0")
    band: Literal[50, 80, 95] = 80

    @property
    def words(self) -> str:
        return f"{self.band} % band touches {self.price:g}"


class CoverageDrift(_SeriesRule):
    """The bands of the newest scored forecasts hold another share of what came than they say."""

    when: Literal["coverage_drift"]

    @property
    def words(self) -> str:
        return "coverage drift"


class MissedUpdate(_SeriesRule):
    """A forecast that was due has not come."""

    when: Literal["missed_update"]

    @property
    def words(self) -> str:
        return "missed update"


class SimulatedData(_SeriesRule):
    """A series runs on simulated klines."""

    when: Literal["simulated_data"]

    @property
    def words(self) -> str:
        return "simulated data"


class WorkerGone(_Rule):
    """Fewer workers of a lane that forecasts are led to gave a sign of life in the last minute than there should be."""

    when: Literal["worker_gone"]
    fewer_than: int = Field(1, ge=1, le=10_000)

    @property
    def words(self) -> str:
        return "worker gone" if self.fewer_than == 1 else f"fewer than {self.fewer_than} workers"


ForecastRule = UpsideAbove | UpsideBelow | VolatilityAbove | BandTouches
SeriesSystemRule = CoverageDrift | MissedUpdate | SimulatedData
Rule = ForecastRule | SeriesSystemRule | WorkerGone
AlertRule = Annotated[Rule, Field(discriminator="when")]

_KINDS: dict[str, type[_Rule]] = {get_args(kind.model_fields["when"].annotation)[0]: kind for kind in get_args(Rule)}
RULES_IN_WORDS = (
    f"a list of at most {MOST_RULES} rules such as {{when: upside_above, level: 0.7}}, where when is one of "
    f"{', '.join(_KINDS)}"
)


def _written(value: object) -> object:
    """In the environment the list is written as in the file: [{when: upside_above, level: 0.7}]."""
    if not isinstance(value, str):
        return value
    try:
        return yaml.safe_load(value) or []
    except yaml.YAMLError:
        return value  # refused as it was given


RulesAsWritten = BeforeValidator(_written)


def refuse_twins(rules: tuple[Rule, ...]) -> tuple[Rule, ...]:
    """Two of one name could not be told apart in messages, and of two that say the same one is for nothing."""
    for place, rule in enumerate(rules):
        before = rules[:place]
        if rule.name and rule.name in (names := [one.name for one in before]):
            raise ValueError(
                f"alerts.rules[{place}].name is {rule.name!r}, which alerts.rules[{names.index(rule.name)}] is called as well: "
                f"give each a name of its own"
            )
        if rule.key in (keys := [one.key for one in before]):
            raise ValueError(
                f"alerts.rules[{place}] ({rule.title}) says what alerts.rules[{keys.index(rule.key)}] says: leave one out"
            )
    return rules


def rule_problem(problem: Any) -> str | None:
    """What is wrong with one rule in a sentence without its end, of an error of pydantic; None where it is of no rule."""
    way = problem["loc"]
    if way[:2] != ("alerts", "rules") or len(way) < 3:
        return None
    knob, kind = f"alerts.rules[{way[2]}]", _KINDS.get(str(way[3])) if len(way) > 3 else None
    given = problem["input"]
    if kind is None or len(way) < 5:
        if not isinstance(given, dict):
            return f"{knob} is {given!r}, but allowed is a rule such as {{when: upside_above, level: 0.7}}"
        return f"{knob}.when is {given.get('when', 'not there')!r}, but allowed is one of {', '.join(_KINDS)}"
    name = str(way[4])
    if problem["type"] == "extra_forbidden":
        return f"{knob}.{name} is no knob of {way[3]}, which takes {', '.join(_fields(kind))}"
    value = "not there" if problem["type"] == "missing" else repr(given)
    return f"{knob}.{name} is {value}, but allowed is {describe_allowed(kind.model_fields[name])}"


def _fields(kind: type[_Rule]) -> list[str]:
    own = [name for name in kind.model_fields if name not in _Rule.model_fields]
    return cast("list[str]", ["when", *(name for name in own if name != "when"), *_Rule.model_fields])


def _percent(share: float) -> str:
    return f"{share * 100:g} %"
