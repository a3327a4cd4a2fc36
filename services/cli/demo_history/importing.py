"""A history of pages -> entries of the imported ledger, scored where candles are at hand. The story of one import.

Nothing here can crash on a page: what cannot be taken is counted, and the first reasons are told.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from pydantic import Field

from services.cli.demo_history.page import Figures, PageError, read_page
from services.cli.demo_history.repository import Repository, Version
from shared.contract import Contract
from shared.errors import RequestError
from shared.imported_ledger import ImportedEntry, ImportedLedger, ImportedUpdate
from shared.imported_scores import KnownCloses, score_update
from shared.klines import Interval, utc
from shared.settings import Series

REASONS_TOLD = 5
_LONGEST_EARLY_MS = 300_000  # that a commit may lie before the update that it publishes: clocks differ


class Imported(Contract):
    """What came of an import."""

    forecaster: str
    symbol: str
    interval: Interval
    repository: str
    pages: int = Field(description="commits that changed the page")
    new: int = Field(description="updates that were not there before")
    known: int = Field(description="updates that were there before")
    differing: int = Field(description="of those, such as say something else now; what was imported first is kept")
    repeated: int = Field(description="pages that have no news: an update, or a candle, that an earlier page has")
    refused: int = Field(description="pages of which no update could be taken")
    reasons: list[str] = Field(description="why, for the first of them")
    updates: int = Field(description="in the ledger now")
    scored: int = Field(description="of those")
    newly_scored: int
    waiting: int = Field(description="updates whose horizon is not over yet")
    lacking_from_ms: int | None = Field(
        description="the last candle that was known to the first update without candles, UTC ms; none where each has some"
    )


@dataclass(frozen=True)
class Source:
    """What is imported: under which name, on which series, how many candles ahead its updates speak of."""

    forecaster: str
    series: Series
    horizon: int


@dataclass
class _Found:
    """What pages gave: the first update of each candle, in their order."""

    updates: dict[str, ImportedUpdate] = field(default_factory=dict)
    repeated: int = 0
    refused: int = 0
    reasons: list[str] = field(default_factory=list)

    def refuse(self, version: Version, why: object) -> None:
        self.refused += 1
        if len(self.reasons) < REASONS_TOLD:
            self.reasons.append(f"the page of commit {version.commit[:12]} {why}.")


def import_history(
    ledger: ImportedLedger,
    repository: Repository,
    source: Source,
    closes_between: Callable[[int, int], Sequence[KnownCloses]],
    now_ms: int,
    pages: Callable[[Sequence[tuple[str, int]], Iterator[Version]], Iterator[Version]],
) -> Imported:
    """Read every page, write what is new, and score what can be scored; `now_ms` is UTC ms.

    `closes_between` gives the closes that are at hand from one open time to another (UTC ms); `pages` hands the versions of the
    commits on, and can tell how far they are. Raises RequestError, or StoreUnavailableError; what was written until then stays.
    """
    symbol, interval = source.series
    before = {one.update.key: one.update for one in _own(ledger, source)}
    _refuse_mixing(before, repository.name, source)
    commits = repository.commits()
    found = _read(source, repository.name, pages(commits, repository.versions(commits)), now_ms)
    if found.refused and not found.updates:
        raise RequestError(f"None of the {len(commits)} pages could be taken; {found.reasons[0]}")
    new = ledger.add(symbol, interval, list(found.updates.values()))
    newly_scored = _score(ledger, source, closes_between, now_ms)
    after = _own(ledger, source)
    lacking = [entry.update for entry in after if not entry.scores and entry.update.end_ms <= now_ms]
    return Imported(
        forecaster=source.forecaster,
        symbol=symbol,
        interval=interval,
        repository=repository.name,
        pages=len(commits),
        new=new,
        known=len(found.updates) - new,
        differing=sum(not one.says_the_same_as(before.get(key, one)) for key, one in found.updates.items()),
        repeated=found.repeated,
        refused=found.refused,
        reasons=found.reasons,
        updates=len(after),
        scored=sum(entry.scores is not None for entry in after),
        newly_scored=newly_scored,
        waiting=sum(entry.update.end_ms > now_ms for entry in after),
        lacking_from_ms=min((one.last_open_time_ms for one in lacking), default=None),
    )


def _own(ledger: ImportedLedger, source: Source) -> list[ImportedEntry]:
    return [entry for entry in ledger.entries(*source.series) if entry.update.forecaster == source.forecaster]


def _refuse_mixing(before: Mapping[str, ImportedUpdate], repository: str, source: Source) -> None:
    """Two pages under one name would be one record of two forecasters. Raises RequestError."""
    first = next(iter(before.values()), None)
    if first is None or (first.repository, first.horizon) == (repository, source.horizon):
        return
    raise RequestError(
        f"{source.forecaster} of {source.series} is what {first.repository} says of {first.horizon} candles ahead, not what "
        f"{repository} says of {source.horizon}: give this one a name of its own with --name.",
        field="name",
    )


def _read(source: Source, repository: str, versions: Iterator[Version], now_ms: int) -> _Found:
    found = _Found()
    for version in versions:
        if version.content is None:
            found.repeated += 1
            continue
        if isinstance(version.content, PageError):
            found.refuse(version, version.content)
            continue
        try:
            update = _update(source, repository, version, read_page(version.content), now_ms)
            if update.key in found.updates:
                found.repeated += 1
                continue
            _refuse_late(update, now_ms)
            found.updates[update.key] = update
        except PageError as why:
            found.refuse(version, why)
    return found


def _update(source: Source, repository: str, version: Version, figures: Figures, now_ms: int) -> ImportedUpdate:
    symbol, interval = source.series
    return ImportedUpdate(
        forecaster=source.forecaster,
        symbol=symbol,
        interval=interval,
        horizon=source.horizon,
        last_open_time_ms=interval.open_time(figures.updated_at_ms) - interval.ms,
        updated_at_ms=figures.updated_at_ms,
        upside=figures.upside,
        volatility_amplification=figures.volatility_amplification,
        repository=repository,
        commit=version.commit,
        committed_at_ms=version.committed_at_ms,
        imported_at_ms=now_ms,
    )


def _refuse_late(update: ImportedUpdate, now_ms: int) -> None:
    """Raises PageError where it can't have been said when it claims to have been: then it may have known what followed."""
    said_ms, committed_ms = update.updated_at_ms, update.committed_at_ms
    if committed_ms < said_ms - _LONGEST_EARLY_MS or said_ms > now_ms + _LONGEST_EARLY_MS:
        raise PageError(f"was updated at {utc(said_ms)} by what it says, which is later than its commit")
    if committed_ms >= said_ms + update.interval.ms:
        raise PageError(
            f"was updated at {utc(said_ms)} by what it says, but its commit came a candle later or more, so that what followed "
            f"may have been known"
        )


def _score(
    ledger: ImportedLedger,
    source: Source,
    closes_between: Callable[[int, int], Sequence[KnownCloses]],
    now_ms: int,
) -> int:
    due = [entry.update for entry in _own(ledger, source) if not entry.scores and entry.update.end_ms <= now_ms]
    if not due:
        return 0
    sources = closes_between(due[0].last_open_time_ms, due[-1].end_ms)
    scored = {one.key: scores for one in due if (scores := score_update(one, sources, now_ms))}
    return ledger.add_scores(*source.series, scored)
