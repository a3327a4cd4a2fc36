"""What the entries of a ledger say together: is there skill, do the bands hold what they say, and has that changed?

Everything is of one forecaster (one model with one way of sampling) on one series. Numpy only; knows neither stores nor
pages. Horizons overlap, so neighbouring entries say much the same: every interval here comes from a block bootstrap.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from shared.contract import Contract
from shared.ledger import BandScore, EventScore, LedgerEntry, Scores
from shared.statistics import LEVELS

Floats = NDArray[np.float64]
Verdict = Literal["too few", "edge", "no edge", "worse"]

FEWEST = 30  # scored forecasts before anything is claimed
FEWEST_BLOCKS = 5  # that do not overlap; fewer tell little of how much blocks differ
RESAMPLES = 2000
PIT_BINS = 10
RELIABILITY_BINS = 10
PERIODS = 12
RECENT = 100  # forecasts that drift is looked for in
DRIFT_QUANTILE = 2.5758  # of the normal distribution: left to either side by chance once in a hundred times
WORST = 5


class Interval95(Contract):
    """A mean over forecasts, with its 95 % interval by block bootstrap; none where there are too few."""

    value: float
    lower: float | None
    upper: float | None


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
    """A forecast that was far off: its CRPS, and in multiples of the mean."""

    forecast_id: str
    last_open_time_ms: int
    crps: float
    times_the_mean: float


class Drift(Contract):
    """Whether the newest forecasts are covered as the band says, by a range that allows for overlapping horizons."""

    level: int
    forecasts: int
    covered: float
    expected_from: float
    expected_to: float
    drifted: bool


class SkillDrift(Contract):
    """Whether the newest forecasts are as good, beside the best baseline, as those before, by the same kind of range."""

    forecasts: int
    skill: float
    skill_before: float
    expected_from: float
    expected_to: float
    drifted: bool


class ForecasterRecord(Contract):
    """One way of forecasting in a line, for comparing those that were tried."""

    forecaster: str
    model: str
    horizon: int
    temperature: float
    top_p: float
    top_k: int
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
    drift: Drift | None = Field(description="of the coverage; none where there are too few to tell")
    skill_drift: SkillDrift | None


def forecasters(entries: Sequence[LedgerEntry]) -> list[ForecasterRecord]:
    """Each that has scored forecasts among the entries (oldest first), the one of the newest first, then by how many."""
    groups: dict[str, list[LedgerEntry]] = {}
    for entry in entries:
        if entry.scores:
            groups.setdefault(entry.forecaster, []).append(entry)
    newest = next((entry.forecaster for entry in reversed(entries) if entry.scores), None)
    records = [_forecaster(group, newest=name == newest) for name, group in groups.items()]
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
        upside=_events([one.upside for one in scores]),
        volatility_amplification=_events([one.volatility_amplification for one in scores]),
        recalibrated=_recalibration(scores, block),
        periods=_periods(scored, best),
        worst=_worst(scored, float(crps.mean())),
        drift=_drift(scores, block),
        skill_drift=_skill_drift(scores, best, block),
    )


def block_bootstrap(values: Floats, block: int, statistic: Callable[[Floats], Floats]) -> tuple[float, float] | None:
    """The 95 % interval of `statistic` of the means of values [n, k], resampled in circular blocks of `block` rows (Politis
    and Romano 1992); none for fewer rows than `needed`. `statistic` maps means [resamples, k] to [resamples].
    """
    count = len(values)
    if count < needed(block):
        return None
    blocks = -(-count // block)
    sums = np.concatenate((np.zeros((1, values.shape[1])), np.cumsum(np.concatenate((values, values[:block])), axis=0)))
    starts = np.random.default_rng(0).integers(0, count, (RESAMPLES, blocks))
    means = (sums[starts + block] - sums[starts]).sum(axis=1) / (blocks * block)
    lower, upper = np.quantile(statistic(means), (0.025, 0.975))
    return float(lower), float(upper)


def needed(block: int) -> int:
    """Scored forecasts before an interval is given: FEWEST, and FEWEST_BLOCKS blocks."""
    return max(FEWEST, FEWEST_BLOCKS * block)


def _block_length(entries: Sequence[LedgerEntry]) -> int:
    """Forecasts whose horizons overlap, and no fewer than the cube root of all, as is usual."""
    times = np.array([entry.last_open_time_ms for entry in entries])
    apart_ms = float(np.median(np.diff(times))) if len(times) > 1 else entries[0].interval.ms
    overlapping = entries[0].horizon * entries[0].interval.ms / max(apart_ms, 1.0)
    return max(1, int(np.ceil(overlapping)), int(np.cbrt(len(entries))))


def _mean_interval(values: Floats, block: int) -> Interval95:
    known = values[~np.isnan(values)]
    bounds = block_bootstrap(known[:, None], block, lambda means: means[:, 0])
    return Interval95(
        value=float(known.mean()), lower=bounds[0] if bounds else None, upper=bounds[1] if bounds else None
    )


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
    pair = crps[:, [0, best]]

    def skill(means: Floats) -> Floats:
        compared: Floats = 1 - means[:, 0] / np.where(means[:, 1] > 0, means[:, 1], np.nan)
        return np.nan_to_num(compared)

    bounds = block_bootstrap(pair, block, skill)
    value = float(skill(pair.mean(axis=0)[None])[0])
    return names[best - 1], Interval95(
        value=value, lower=bounds[0] if bounds else None, upper=bounds[1] if bounds else None
    )


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
                covered=_mean_interval(np.nanmean(inside, axis=1), block),
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


def _events(events: Sequence[EventScore | None]) -> EventRecord | None:
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
        upside=_events([one.upside for one in own]),
        volatility_amplification=_events([one.volatility_amplification for one in own]),
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
            last_open_time_ms=entry.last_open_time_ms,
            crps=one.crps,
            times_the_mean=one.crps / mean if mean > 0 else 0.0,
        )
        for entry, one in by_crps
    ]


def _drift(scores: Sequence[Scores], block: int, level: int = 80) -> Drift | None:
    """Of the bands that are shown first: the recalibrated ones where there are enough, else the raw ones.

    The range is left by chance once in a hundred times.
    """
    recalibrated = [one.recalibrated.bands for one in scores if one.recalibrated]
    bands = recalibrated if len(recalibrated) >= 2 * FEWEST else [one.bands for one in scores]
    shares = np.array([_share(one[LEVELS.index(level)].covered) for one in bands])
    if not _enough_for_drift(len(shares), block):
        return None
    recent = shares[-RECENT:]
    error = _reach(len(shares), block) * _standard_error(shares, block, len(recent))
    covered = float(recent.mean())
    return Drift(
        level=level,
        forecasts=len(recent),
        covered=covered,
        expected_from=max(0.0, level / 100 - error),
        expected_to=min(1.0, level / 100 + error),
        drifted=not level / 100 - error <= covered <= level / 100 + error,
    )


def _skill_drift(scores: Sequence[Scores], best: str, block: int) -> SkillDrift | None:
    """The newest forecasts' skill beside that of all before them; chance alone leaves the range once in a hundred times.

    A skill is a ratio of means, so its error is that of the mean of (CRPS - (1 - skill) * baseline's CRPS) over the
    baseline's mean (the delta method).
    """
    count = len(scores) - RECENT
    if not best or not _enough_for_drift(count, block):
        return None
    crps, plain = np.array([one.crps for one in scores]), np.array([one.baselines[best].crps for one in scores])
    if plain[:count].mean() == 0 or plain[count:].mean() == 0:
        return None
    before, now = (1 - float(crps[part].mean() / plain[part].mean()) for part in (slice(count), slice(count, None)))
    whole = 1 - crps.mean() / plain.mean()
    off = (crps - (1 - whole) * plain) / plain.mean()
    deviation = np.hypot(_standard_error(off, block, RECENT), _standard_error(off, block, count))
    error = _reach(len(off), block) * float(deviation)
    return SkillDrift(
        forecasts=RECENT,
        skill=now,
        skill_before=before,
        expected_from=before - error,
        expected_to=before + error,
        drifted=abs(now - before) > error,
    )


def _enough_for_drift(count: int, block: int) -> bool:
    return count >= max(2 * FEWEST, FEWEST_BLOCKS * block)


def _reach(count: int, block: int) -> float:
    """The quantile of Student's t for an error known from so many blocks, by its expansion about the normal's (Cornish and
    Fisher 1938; 5 % short at five blocks, less beyond)."""
    z, freedom = DRIFT_QUANTILE, count // block - 1
    return z + (z**3 + z) / (4 * freedom) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * freedom**2)


def _standard_error(values: Floats, block: int, count: int) -> float:
    """Of a mean of `count` neighbours, whose horizons overlap within blocks: by how much the means of blocks differ."""
    blocks = len(values) // block
    means = values[-blocks * block :].reshape(blocks, block).mean(axis=1)
    return float(means.std(ddof=1) / np.sqrt(max(1.0, count / block)))


def _share(covered: Sequence[bool | None]) -> float:
    known = [step for step in covered if step is not None]
    return sum(known) / len(known)


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
        forecasts=len(scores),
        crps=float(np.mean([one.crps for one in scores])),
        skill=skill.value,
        covered_80=float(np.mean([_share(one.bands[LEVELS.index(80)].covered) for one in scores])),
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
