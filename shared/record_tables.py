"""A track record in rows of words, for a terminal and for a report alike: a head and its rows each."""

from __future__ import annotations

from shared.forecasts import BASELINE_NAMES
from shared.track_record import Interval95, LevelRecord, TrackRecord

Rows = tuple[list[str], list[list[str]]]

VERDICTS = {
    "too few": "Too few forecasts to tell whether there is any skill",
    "edge": "Better than every baseline",
    "no edge": "No edge over the best baseline",
    "worse": "Worse than the best baseline",
}


def headline(record: TrackRecord) -> str:
    skill = record.skill
    between = "" if skill.lower is None or skill.upper is None else f" (95 %: {skill.lower:+.1%} to {skill.upper:+.1%})"
    best = BASELINE_NAMES.get(record.best_baseline, record.best_baseline)
    return f"{VERDICTS[record.verdict]}: skill {skill.value:+.1%}{between} against {best}."


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
    for name, raw, mapped in (
        ("above the last close at the end", record.upside, beside.upside if beside else None),
        (
            "more volatile than before",
            record.volatility_amplification,
            beside.volatility_amplification if beside else None,
        ),
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
