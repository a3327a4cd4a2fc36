"""Drift is said with its numbers, what they mean and what to do, in each language; and not at all when there is none."""

from __future__ import annotations

import pytest

from services.web.languages import LANGUAGES, translator
from services.web.notices import drift_notices
from shared.drift import Drift, SkillDrift
from shared.track_record import TrackRecord, track_record
from tests.unit.web.test_record_charts import entry


def record(drift: Drift | None, skill_drift: SkillDrift | None) -> TrackRecord:
    found = track_record([entry(number, recalibrated=False) for number in range(30)])
    assert found
    return found.model_copy(update={"drift": drift, "skill_drift": skill_drift})


def coverage(covered: float, *, recalibrated: bool = False, drifted: bool = True) -> Drift:
    return Drift(
        level=80,
        recalibrated=recalibrated,
        forecasts=100,
        covered=covered,
        expected_from=0.7,
        expected_to=0.9,
        drifted=drifted,
    )


def skill(now: float, *, drifted: bool = True) -> SkillDrift:
    return SkillDrift(
        forecasts=100, skill=now, skill_before=0.02, expected_from=-0.03, expected_to=0.07, drifted=drifted
    )


@pytest.mark.parametrize(
    ("drift", "skill_drift", "said"),
    [
        (coverage(0.5), None, ["The raw 80 % band held 50.0\u00a0%", "take them for too narrow"]),
        (coverage(0.97, recalibrated=True), None, ["The recalibrated 80 % band held 97.0\u00a0%", "too wide"]),
        (None, skill(-0.2), ["is −20.00\u00a0%; before it was +2.00\u00a0%", "worse than their record says"]),
        (coverage(0.8, drifted=False), skill(0.3), ["is +30.00\u00a0%", "better than their record says"]),
    ],
)
def test_what_drifts_is_said_with_its_meaning(
    drift: Drift | None, skill_drift: SkillDrift | None, said: list[str]
) -> None:
    [notice] = drift_notices(record(drift, skill_drift))
    assert (notice.tone, notice.of_record) == ("drift", True)
    english = " ".join(str(translator("en")(saying.key, **saying.values)) for saying in notice.text)
    assert all(words in english for words in said)
    assert english.endswith("This goes away by itself when it is over.")
    assert ("80 % band" in english) == bool(drift and drift.drifted)
    for language in LANGUAGES:
        assert all(translator(language)(saying.key, **saying.values) for saying in notice.text)


@pytest.mark.parametrize(
    ("drift", "skill_drift"), [(None, None), (coverage(0.8, drifted=False), skill(0.02, drifted=False))]
)
def test_nothing_is_said_while_all_is_as_it_should_be(drift: Drift | None, skill_drift: SkillDrift | None) -> None:
    assert drift_notices(record(drift, skill_drift)) == []


def test_nothing_is_said_where_nothing_is_scored() -> None:
    assert drift_notices(None) == []
