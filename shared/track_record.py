"""What the entries of a ledger say together: is there skill, do the bands hold what they say, and has that changed?

Everything is of one forecaster (one model with one way of sampling) on one series. Numpy only; knows neither stores nor
pages. Horizons overlap, so neighbouring entries say much the same: every interval here comes from a block bootstrap.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from pydantic import Field

from shared.contract import Contract
from shared.drift import Drift, SkillDrift, coverage_drift, skill_drift
from shared.ledger import BandScore, EventScore, LedgerEntry, Scores, Steps
from shared.resampling import FEWEST, Floats, Interval95, block_length, mean_interval, needed, skill_interval
from shared.statistics import LEVELS
from shared.trials import Trial, trial

Verdict = Literal["too few", "edge", "no edge", "worse"]

DRIFT_LEVEL = 80
PIT_BINS = 10
RELIABILITY_BINS = 10
PERIODS = 12
WORST = 5


class LevelRecord(Contract):
    """What share of the closes the band of `level` percent held."""

    level: int
    covered: Interval95
    by_step: list[float | None]
    interval_score: float


class ReliabilityBin(Contract):
    """Forecasts that gave about the same probability, and how often it happened."""

    said: float
    happened: float
    forecasts: int


class EventRecord(Contract):
    """Probabilities of one event. `always_half` is what a constant one half scores: 0.25."""

    forecasts: int
    brier: float
    happened: float = Field(description="share of forecasts after which it happened")
    always_half: float = 0.25
    always_share: float = Field(
        description="what the share that happened would score, said each time; it is known only afterwards"
    )
    reliability: list[ReliabilityBin]


class BaselineRecord(Contract):
    """A baseline beside the forecasts that it was stated with, which may not be all: GARCH needs an extra installed."""

    name: str
    forecasts: int
    crps: float
    skill: float | None = Field(description="1 - CRPS / its CRPS, over those forecasts; none where it was never off")
    brier_upside: float | None


class PeriodRecord(Contract):
    """A stretch of the record, of equally many forecasts."""

    from_ms: int
    until_ms: int
    forecasts: int
    crps: float
    skill: float


class Worst(Contract):
    """A forecast that was far off, and what then happened, which the ledger keeps when the forecast itself is gone."""

    forecast_id: str
    made_for: Literal["schedule", "backtest"]
    last_open_time_ms: int
    last_close: float
    crps: float
    times_the_mean: float
    closes: Steps = Field(description="what then happened: the close of each step")
    held: list[bool | None] = Field(description="whether the raw 80 % band held it")


class ForecasterRecord(Contract):
    """One way of forecasting in a line, for comparing those that were tried."""

    forecaster: str
    model: str
    horizon: int
    temperature: float
    top_p: float
    top_k: int
    history: int = Field(description="candles that the model was given")
    num_samples: int = Field(description="paths of its newest forecast")
    dtype: str | None = Field(description="of its newest forecast; none where it was not noted")
    forecasts: int
    crps: float
    skill: float
    covered_80: float
    newest: bool = Field(description="whether the newest forecast of the series is its")


class Recalibration(Contract):
    """The record of what was recalibrated, over those forecasts alone that were."""

    forecasts: int
    bands: list[LevelRecord]
    upside: EventRecord | None
    volatility_amplification: EventRecord | None


class TrackRecord(Contract):
    """The record of one forecaster on one series."""

    forecaster: ForecasterRecord
    from_ms: int = Field(description="open time of the last candle known to the first forecast, UTC ms")
    until_ms: int
    forecasts: int = Field(description="scored ones")
    needed: int = Field(description="scored ones before a verdict is given")
    unscored: int = Field(description="forecasts whose candles could not be had")
    incomplete: int = Field(description="scored ones of which a candle is missing")
    revised: int = Field(description="scored ones whose last known candle was changed afterwards")
    seen_in_training: int = Field(description="forecasts of a time that the model may have been trained on")
    backtest: int = Field(description="scored ones that a backtest made afterwards, not the schedule at the time")
    crps: float = Field(description="mean, in 1e-4 of the last close")
    crps_by_step: list[float | None]
    error_of_median: float
    error_of_mean: float
    baselines: list[BaselineRecord]
    best_baseline: str = Field(description="the lowest CRPS of those that stand beside every forecast")
    skill: Interval95 = Field(description="1 - CRPS / CRPS of the best baseline")
    verdict: Verdict = Field(description="edge or worse where the interval of the skill leaves 0 out")
    bands: list[LevelRecord]
    pit: list[float] = Field(description="share of the closes by rank among the paths, ten bins; 0.1 each if perfect")
    upside: EventRecord | None
    volatility_amplification: EventRecord | None
    recalibrated: Recalibration | None
    periods: list[PeriodRecord]
    worst: list[Worst]
    drift: Drift | None = Field(description="of the coverage; none where there are too few")
    skill_drift: SkillDrift | None = Field(description="of the skill; none where there are too few")
    trials: list[Trial] = Field(description="beside each other forecaster that has forecasts after the same candles")


def forecasters(entries: Sequence[LedgerEntry]) -> list[ForecasterRecord]:
    """Each that has scored forecasts among the entries (oldest first), the one of the newest first, then by how many."""
    newest = next((entry.forecaster for entry in reversed(entries) if entry.scores), None)
    records = [_forecaster(group, newest=name == newest) for name, group in _by_forecaster(entries).items()]
    return sorted(records, key=lambda one: (not one.newest, -one.forecasts))


def track_record(entries: Sequence[LedgerEntry], forecaster: str | None = None) -> TrackRecord | None:
    """Of the forecaster named, else of the newest forecast's; entries oldest first. None where it has no scored one."""
    known = forecasters(entries)
    line = next((one for one in known if forecaster in (None, one.forecaster)), None)
    if line is None:
        return None
    own = [entry for entry in entries if entry.forecaster == line.forecaster]
    scored = [(entry, entry.scores) for entry in own if entry.scores]
    scores = [one for _, one in scored]
    crps, block = np.array([one.crps for one in scores]), _block_length([entry for entry, _ in scored])
    best, skill = _skill(scores, block)
    return TrackRecord(
        forecaster=line,
        from_ms=scored[0][0].last_open_time_ms,
        until_ms=scored[-1][0].last_open_time_ms,
        forecasts=len(scored),
        needed=needed(block),
        unscored=len(own) - len(scored),
        incomplete=sum(None in entry.closes for entry, _ in scored),
        revised=sum(entry.revised for entry, _ in scored),
        seen_in_training=sum(entry.seen_in_training for entry, _ in scored),
        backtest=sum(entry.made_for == "backtest" for entry, _ in scored),
        crps=float(crps.mean()),
        crps_by_step=_by_step([one.crps_by_step for one in scores]),
        error_of_median=float(np.mean([one.error_of_median for one in scores])),
        error_of_mean=float(np.mean([one.error_of_mean for one in scores])),
        baselines=[_baseline(name, scores) for name in _named_baselines(scores)],
        best_baseline=best,
        skill=skill,
        verdict=_verdict(skill),
        bands=_levels([one.bands for one in scores], block),
        pit=_pit(scores),
        upside=event_record([one.upside for one in scores]),
        volatility_amplification=event_record([one.volatility_amplification for one in scores]),
        recalibrated=_recalibration(scores, block),
        periods=_periods(scored, best),
        worst=_worst(scored, float(crps.mean())),
        drift=_drift(scores, block),
        skill_drift=_skill_drift(scores, best, block),
        trials=_trials(line, entries, block),
    )


def _block_length(entries: Sequence[LedgerEntry]) -> int:
    times = np.array([entry.last_open_time_ms for entry in entries], dtype=np.int64)
    return block_length(times, entries[0].horizon, entries[0].interval.ms)


def _common_baselines(scores: Sequence[Scores]) -> list[str]:
    """Those that stand beside every forecast, in their order."""
    return [name for name in scores[0].baselines if all(name in one.baselines for one in scores)]


def _named_baselines(scores: Sequence[Scores]) -> list[str]:
    """Those that stand beside any forecast, in their order."""
    return list(dict.fromkeys(name for one in scores for name in one.baselines))


def _baseline(name: str, scores: Sequence[Scores]) -> BaselineRecord:
    beside = [one for one in scores if name in one.baselines]
    events = [event for one in beside if (event := one.baselines[name].upside)]
    crps = float(np.mean([one.baselines[name].crps for one in beside]))
    return BaselineRecord(
        name=name,
        forecasts=len(beside),
        crps=crps,
        skill=1 - float(np.mean([one.crps for one in beside])) / crps if crps > 0 else None,
        brier_upside=float(np.mean([event.brier for event in events])) if events else None,
    )


def _skill(scores: Sequence[Scores], block: int) -> tuple[str, Interval95]:
    """Against the baseline that turned out best, which nobody could know before: the harder comparison."""
    names = _common_baselines(scores)
    if not names:
        return "", Interval95(value=0.0, lower=None, upper=None)
    crps = np.array([[one.crps, *(one.baselines[name].crps for name in names)] for one in scores])
    best = 1 + int(crps[:, 1:].mean(axis=0).argmin())
    return names[best - 1], skill_interval(crps[:, 0], crps[:, best], block)


def _verdict(skill: Interval95) -> Verdict:
    if skill.lower is None or skill.upper is None:
        return "too few"
    if skill.lower > 0:
        return "edge"
    return "worse" if skill.upper < 0 else "no edge"


def _levels(bands: Sequence[Sequence[BandScore]], block: int) -> list[LevelRecord]:
    records = []
    for place, level in enumerate(LEVELS):
        of_level = [one[place] for one in bands]
        inside = np.array([[np.nan if step is None else float(step) for step in one.covered] for one in of_level])
        records.append(
            LevelRecord(
                level=level,
                covered=mean_interval(np.nanmean(inside, axis=1), block),
                by_step=_step_means(inside),
                interval_score=float(np.mean([one.interval_score for one in of_level])),
            )
        )
    return records


def _pit(scores: Sequence[Scores]) -> list[float]:
    ranks = [rank for one in scores for rank in one.pit if rank is not None]
    counts, _ = np.histogram(ranks, bins=PIT_BINS, range=(0, 1))
    shares: list[float] = (counts / max(1, len(ranks))).tolist()
    return shares


def event_record(events: Sequence[EventScore | None]) -> EventRecord | None:
    """None where no event is known."""
    known = [event for event in events if event]
    if not known:
        return None
    said = np.array([event.probability for event in known])
    happened = np.array([float(event.happened) for event in known])
    bins = np.minimum((said * RELIABILITY_BINS).astype(int), RELIABILITY_BINS - 1)
    return EventRecord(
        forecasts=len(known),
        brier=float(np.mean((said - happened) ** 2)),
        happened=float(happened.mean()),
        always_share=float(happened.mean() * (1 - happened.mean())),
        reliability=[
            ReliabilityBin(
                said=float(said[bins == one].mean()),
                happened=float(happened[bins == one].mean()),
                forecasts=int((bins == one).sum()),
            )
            for one in sorted(set(bins.tolist()))
        ],
    )


def _recalibration(scores: Sequence[Scores], block: int) -> Recalibration | None:
    own = [one.recalibrated for one in scores if one.recalibrated]
    if not own:
        return None
    return Recalibration(
        forecasts=len(own),
        bands=_levels([one.bands for one in own], block),
        upside=event_record([one.upside for one in own]),
        volatility_amplification=event_record([one.volatility_amplification for one in own]),
    )


def _periods(scored: Sequence[tuple[LedgerEntry, Scores]], best: str) -> list[PeriodRecord]:
    periods = []
    for places in np.array_split(np.arange(len(scored)), min(PERIODS, max(1, len(scored) // FEWEST))):
        part = [scored[place] for place in places]
        crps = float(np.mean([one.crps for _, one in part]))
        plain = float(np.mean([one.baselines[best].crps for _, one in part])) if best else 0.0
        periods.append(
            PeriodRecord(
                from_ms=part[0][0].last_open_time_ms,
                until_ms=part[-1][0].last_open_time_ms,
                forecasts=len(part),
                crps=crps,
                skill=1 - crps / plain if plain > 0 else 0.0,
            )
        )
    return periods


def _worst(scored: Sequence[tuple[LedgerEntry, Scores]], mean: float) -> list[Worst]:
    by_crps = sorted(scored, key=lambda one: -one[1].crps)[:WORST]
    return [
        Worst(
            forecast_id=entry.forecast_id,
            made_for=entry.made_for,
            last_open_time_ms=entry.last_open_time_ms,
            last_close=entry.last_close,
            crps=one.crps,
            times_the_mean=one.crps / mean if mean > 0 else 0.0,
            closes=entry.closes,
            held=one.bands[LEVELS.index(80)].covered,
        )
        for entry, one in by_crps
    ]


def _drift(scores: Sequence[Scores], block: int) -> Drift | None:
    """Of the recalibrated bands where there are enough, else of the raw ones."""
    beside = [one.recalibrated.bands for one in scores if one.recalibrated]
    recalibrated = len(beside) >= 2 * FEWEST
    bands = beside if recalibrated else [one.bands for one in scores]
    shares = np.array([one[LEVELS.index(DRIFT_LEVEL)].share for one in bands])
    return coverage_drift(shares, block, DRIFT_LEVEL, recalibrated=recalibrated)


def _skill_drift(scores: Sequence[Scores], best: str, block: int) -> SkillDrift | None:
    if not best:
        return None
    return skill_drift(
        np.array([one.crps for one in scores]), np.array([one.baselines[best].crps for one in scores]), block
    )


def _trials(own: ForecasterRecord, entries: Sequence[LedgerEntry], block: int) -> list[Trial]:
    """Beside each other forecaster, the one with the most candles in common first."""
    groups = _by_forecaster(entries)
    others = [group for name, group in groups.items() if name != own.forecaster]
    found = [one for group in others if (one := trial(groups[own.forecaster], group, block))]
    return sorted(found, key=lambda one: -one.forecasts)


def _by_forecaster(entries: Sequence[LedgerEntry]) -> dict[str, list[LedgerEntry]]:
    """The scored entries of each."""
    groups: dict[str, list[LedgerEntry]] = {}
    for entry in entries:
        if entry.scores:
            groups.setdefault(entry.forecaster, []).append(entry)
    return groups


def _forecaster(group: Sequence[LedgerEntry], *, newest: bool) -> ForecasterRecord:
    last, scores = group[-1], [entry.scores for entry in group if entry.scores]
    _, skill = _skill(scores, len(scores) + 1)
    return ForecasterRecord(
        forecaster=last.forecaster,
        model=last.model,
        horizon=last.horizon,
        temperature=last.temperature,
        top_p=last.top_p,
        top_k=last.top_k,
        history=last.history,
        num_samples=last.num_samples,
        dtype=last.dtype,
        forecasts=len(scores),
        crps=float(np.mean([one.crps for one in scores])),
        skill=skill.value,
        covered_80=float(np.mean([one.bands[LEVELS.index(80)].share for one in scores])),
        newest=newest,
    )


def _by_step(rows: Sequence[Sequence[float | None]]) -> list[float | None]:
    return _step_means(np.array([[np.nan if step is None else step for step in row] for row in rows]))


def _step_means(values: Floats) -> list[float | None]:
    """values [n, horizon] -> the mean of what is known at each step; none where no forecast has that candle."""
    known = ~np.isnan(values)
    return [
        float(values[known[:, step], step].mean()) if known[:, step].any() else None for step in range(values.shape[1])
    ]
