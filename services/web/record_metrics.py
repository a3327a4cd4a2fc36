"""A track record as metrics: what is on /track-record at first sight, for whoever wants to be told when it changes.

Each series has that of the ledger which its forecasts go to now, and of the forecaster of its newest forecast.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import get_args

from shared.metrics import Metric, Sample
from shared.series_record import SeriesRecord
from shared.track_record import LevelRecord, TrackRecord, Verdict

SERIES = ("symbol", "interval", "origin")
CRPS_UNIT = 1e-4  # in which records tell CRPS, as a share of the last close

SCORED = Metric(
    "kronos_scored_forecasts_total", "Forecasts of the schedule that were scored, all forecasters together.", SERIES
)
RECORD_INFO = Metric(
    "kronos_track_record_info",
    "Always 1; the labels say whose forecasts the track record is of, and how they are drawn.",
    (*SERIES, "forecaster", "model", "horizon", "temperature", "top_p", "top_k"),
)
FORECASTS = Metric("kronos_track_record_forecasts", "Scored forecasts of that forecaster.", SERIES)
NEEDED = Metric("kronos_track_record_forecasts_needed", "How many it takes before a verdict is given.", SERIES)
CRPS = Metric(
    "kronos_crps_ratio",
    "Mean CRPS as a share of the last close, of the model and of each baseline; lower is better. A baseline that came later has "
    "it over its own forecasts.",
    (*SERIES, "forecast"),
)
COVERAGE = Metric(
    "kronos_coverage_ratio",
    "Share of the closes that the band of a level (percent) held, raw and recalibrated; it should be the level.",
    (*SERIES, "level", "bands"),
)
SKILL_AGAINST = Metric(
    "kronos_skill_against_ratio",
    "1 - CRPS / CRPS of a baseline, over the forecasts that it stands beside.",
    (*SERIES, "baseline"),
)
SKILL = Metric(
    "kronos_skill_ratio", "1 - CRPS / CRPS of the best baseline: above 0 is better than each of them.", SERIES
)
SKILL_LOWER = Metric(
    "kronos_skill_lower_ratio", "Lower end of the 95 % interval of the skill; absent while too few are scored.", SERIES
)
SKILL_UPPER = Metric(
    "kronos_skill_upper_ratio", "Upper end of the 95 % interval of the skill; absent while too few are scored.", SERIES
)
VERDICT = Metric("kronos_verdict", "1 for the verdict that the skill bears, 0 for the others.", (*SERIES, "verdict"))
DRIFT = Metric(
    "kronos_drift",
    "1 where the newest forecasts have left the range that is expected of them, in the coverage of their 80 % band or in their "
    "skill; absent while too few are scored.",
    (*SERIES, "of"),
)
DRIFT_OBSERVED = Metric("kronos_drift_observed_ratio", "What the newest forecasts alone have.", (*SERIES, "of"))
DRIFT_LOWER = Metric("kronos_drift_expected_lower_ratio", "Lower end of the range that is expected.", (*SERIES, "of"))
DRIFT_UPPER = Metric("kronos_drift_expected_upper_ratio", "Upper end of the range that is expected.", (*SERIES, "of"))
RECORD_METRICS = (
    SCORED,
    RECORD_INFO,
    FORECASTS,
    NEEDED,
    CRPS,
    SKILL_AGAINST,
    COVERAGE,
    SKILL,
    SKILL_LOWER,
    SKILL_UPPER,
    VERDICT,
    DRIFT,
    DRIFT_OBSERVED,
    DRIFT_LOWER,
    DRIFT_UPPER,
)

Labels = tuple[str, str, str]


def record_samples(found: SeriesRecord) -> Iterator[Sample]:
    """Of one series; before anything is scored only that."""
    labels = (found.symbol, found.interval.value, found.origin)
    yield SCORED.of(found.scored, *labels)
    if found.record is not None:
        yield from _record(found.record, labels)


def _record(record: TrackRecord, labels: Labels) -> Iterator[Sample]:
    by = record.forecaster
    yield RECORD_INFO.of(
        1, *labels, by.forecaster, by.model, by.horizon, f"{by.temperature:g}", f"{by.top_p:g}", by.top_k
    )
    yield FORECASTS.of(record.forecasts, *labels)
    yield NEEDED.of(record.needed, *labels)
    yield CRPS.of(record.crps * CRPS_UNIT, *labels, "model")
    for baseline in record.baselines:
        yield CRPS.of(baseline.crps * CRPS_UNIT, *labels, baseline.name)
        if baseline.skill is not None:
            yield SKILL_AGAINST.of(baseline.skill, *labels, baseline.name)
    yield from _coverage(record.bands, labels, "raw")
    yield from _coverage(record.recalibrated.bands if record.recalibrated else [], labels, "recalibrated")
    yield SKILL.of(record.skill.value, *labels)
    if record.skill.lower is not None and record.skill.upper is not None:
        yield SKILL_LOWER.of(record.skill.lower, *labels)
        yield SKILL_UPPER.of(record.skill.upper, *labels)
    yield from VERDICT.one_of(get_args(Verdict), record.verdict, *labels)
    if (drift := record.drift) is not None:
        yield from _drift("coverage", drift.drifted, drift.covered, (drift.expected_from, drift.expected_to), labels)
    if (skill := record.skill_drift) is not None:
        yield from _drift("skill", skill.drifted, skill.skill, (skill.expected_from, skill.expected_to), labels)


def _coverage(bands: Sequence[LevelRecord], labels: Labels, which: str) -> Iterator[Sample]:
    for band in bands:
        yield COVERAGE.of(band.covered.value, *labels, band.level, which)


def _drift(of: str, drifted: bool, observed: float, expected: tuple[float, float], labels: Labels) -> Iterator[Sample]:
    yield DRIFT.of(drifted, *labels, of)
    yield DRIFT_OBSERVED.of(observed, *labels, of)
    yield DRIFT_LOWER.of(expected[0], *labels, of)
    yield DRIFT_UPPER.of(expected[1], *labels, of)
