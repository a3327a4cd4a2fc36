"""The track record in one word and one sentence, which claims no more than its interval bears: the same on every page."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from services.web.formats import signed_percent
from services.web.languages import Saying
from services.web.wording import say
from shared.series_record import SeriesRecord
from shared.track_record import TrackRecord

Kind = Literal["none", "few", "edge", "no_edge", "worse"]
TONES = {"none": "waiting", "few": "waiting", "edge": "good", "no_edge": "past", "worse": "stale"}


@dataclass(frozen=True)
class Verdict:
    """`kind` is the end of its title's key, `tone` how it looks."""

    kind: Kind
    text: list[Saying]

    @property
    def tone(self) -> str:
        return TONES[self.kind]


def verdict(found: SeriesRecord) -> Verdict:
    """What is said of a series' record; the baseline is named in the language of the request."""
    record = found.record
    kind = _kind(record)
    if record is None:
        key = "record.none_made_so" if found.forecasters else "record.none_text"
        return Verdict(kind, [Saying(key, {"symbol": found.symbol, "interval": found.interval})])
    skill = record.skill
    if skill.lower is None or skill.upper is None:
        counts = {"n": record.forecasts, "fewest": record.needed, "missing": record.needed - record.forecasts}
        return Verdict(kind, [Saying("record.few_text", counts)])
    told = {"skill": skill.value, "lower": skill.lower, "upper": skill.upper}
    numbers = {name: signed_percent(value) for name, value in told.items()}
    baseline = say(f"baseline.{record.best_baseline}")
    sentence = Saying("record.skill_text", {"n": record.forecasts, "baseline": baseline, **numbers})
    return Verdict(kind, [sentence, Saying(f"record.means.{kind}")])


def _kind(record: TrackRecord | None) -> Kind:
    if record is None:
        return "none"
    match record.verdict:
        case "too few":
            return "few"
        case "no edge":
            return "no_edge"
        case "edge" | "worse":
            return record.verdict
