"""A track record in rows of words, for a terminal and for a report alike: a head and its rows each."""

from __future__ import annotations

from collections.abc import Sequence

from shared.forecasts import BASELINE_NAMES
from shared.klines import utc
from shared.resampling import Interval95
from shared.track_record import ForecasterRecord, LevelRecord, TrackRecord

Rows = tuple[list[str], list[list[str]]]

EVENTS = ("above the last close at the end", "more volatile than before")

VERDICTS = {
    "too few": "Too few forecasts to tell whether there is any skill",
    "edge": "Better than every baseline",
    "no edge": "No edge over the best baseline",
    "worse": "Worse than the best baseline",
}


def headline(record: TrackRecord) -> str:
    """The verdict, and what it rests on; before there is one no number is told that might be taken for it."""
    skill = record.skill
    if skill.lower is None or skill.upper is None:
        return f"{VERDICTS['too few']}: {record.forecasts} of {record.needed} are scored."
    between = f"95 %: {skill.lower:+.1%} to {skill.upper:+.1%}"
    best = BASELINE_NAMES.get(record.best_baseline, record.best_baseline)
    return f"{VERDICTS[record.verdict]}: skill {skill.value:+.1%} ({between}) against {best}."


def drift_sentences(record: TrackRecord) -> list[tuple[bool, str]]:
    """What the newest forecasts have beside what is expected of them: of the coverage, and of the skill once there are enough.

    Each with whether that has drifted; then it begins with DRIFT.
    """
    drift, skill = record.drift, record.skill_drift
    if drift is None:
        return [(False, "Too few forecasts to tell whether anything has drifted.")]
    held = f"of the newest {drift.forecasts} forecasts the {drift.level} % band held {drift.covered:.1%}"
    told = [(drift.drifted, held, f"{drift.expected_from:.1%} to {drift.expected_to:.1%}")]
    if skill is not None:
        has = f"the newest {skill.forecasts} forecasts have a skill of {skill.skill:+.1%}"
        told.append((skill.drifted, has, f"{skill.expected_from:+.1%} to {skill.expected_to:+.1%}"))
    return [(left, f"{'DRIFT' if left else 'No drift'}: {what}; expected is {range_}.") for left, what, range_ in told]


def counts_sentence(record: TrackRecord) -> str:
    """What the record is made of, and what is missing in it."""
    return (
        f"{record.forecasts} forecasts scored, the first after {utc(record.from_ms)}, the last after {utc(record.until_ms)}. "
        f"Candles could not be had for {record.unscored}, were missing in part for {record.incomplete}, and were revised "
        f"afterwards for {record.revised}. {record.seen_in_training} are of a time that the model may have been trained on."
    )


def forecaster_rows(forecasters: Sequence[ForecasterRecord]) -> Rows:
    """Each way of forecasting that was scored, over its own forecasts."""
    head = [
        "forecaster",
        "model",
        "horizon",
        "temperature",
        "top-p",
        "history",
        "paths",
        "forecasts",
        "CRPS",
        "skill",
        "80 % band holds",
    ]
    rows = [
        [
            one.forecaster,
            one.model,
            str(one.horizon),
            f"{one.temperature:g}",
            f"{one.top_p:g}",
            str(one.history),
            f"{one.num_samples}{' (int8)' if one.dtype == 'int8' else ''}",
            str(one.forecasts),
            f"{one.crps:.1f}",
            f"{one.skill:+.1%}",
            f"{one.covered_80:.1%}",
        ]
        for one in forecasters
    ]
    return head, rows


def baseline_rows(record: TrackRecord) -> Rows:
    rows = [[record.forecaster.model, f"{record.crps:.1f}", "", f"{record.upside.brier:.3f}" if record.upside else ""]]
    for one in record.baselines:
        rows.append(
            [
                BASELINE_NAMES.get(one.name, one.name)
                + (f" (beside {one.forecasts})" if one.forecasts < record.forecasts else ""),
                f"{one.crps:.1f}",
                "" if one.skill is None else f"{one.skill:+.1%}",
                "" if one.brier_upside is None else f"{one.brier_upside:.3f}",
            ]
        )
    return ["forecast", "CRPS", "skill against it", "Brier of up"], rows


def coverage_rows(record: TrackRecord) -> Rows:
    beside = {band.level: band for band in record.recalibrated.bands} if record.recalibrated else {}
    rows = [
        [
            f"{band.level} %",
            _share(band.covered),
            f"{band.interval_score:.0f}",
            *(_recalibrated(beside[band.level]) if band.level in beside else ["", ""]),
        ]
        for band in record.bands
    ]
    return ["band", "raw holds", "interval score", "recalibrated holds", "interval score"], rows


def event_rows(record: TrackRecord) -> Rows:
    beside = record.recalibrated
    rows = []
    for name, raw, mapped in zip(
        EVENTS,
        (record.upside, record.volatility_amplification),
        (beside.upside, beside.volatility_amplification) if beside else (None, None),
        strict=True,
    ):
        if raw:
            rows.append([name, f"{raw.brier:.3f}", f"{mapped.brier:.3f}" if mapped else "", f"{raw.happened:.0%}"])
    return ["event", "raw", "recalibrated", "happened"], rows


def _recalibrated(band: LevelRecord) -> list[str]:
    return [_share(band.covered), f"{band.interval_score:.0f}"]


def _share(covered: Interval95) -> str:
    if covered.lower is None or covered.upper is None:
        return f"{covered.value:.1%}"
    return f"{covered.value:.1%} ({covered.lower:.1%} to {covered.upper:.1%})"
