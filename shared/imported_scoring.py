"""The scoring of imported updates whose candles have come since they were imported: what the scorekeeper does beside its own
work, and which stored candles count.

Each step in Redis is one that a second scorekeeper, or an import at the same time, may do as well: scores are written once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from shared.due_forecasts import LONGEST_WAIT_MS
from shared.imported_ledger import ImportedLedger, ImportedScores, ImportedUpdate
from shared.imported_scores import RETURNS_BEFORE, KnownCloses, score_update
from shared.kline_store import KlineStore
from shared.klines import CLOSE, Interval
from shared.logs import get_logger

VENUES = ("binance", "okx", "bybit")  # the original's own first
# Of thousands that are imported before ingest has ever run, the rest is for the next candles: our own forecasts are not to wait.
MOST_AT_ONCE = 5000

log = get_logger(__name__)


def score_imported(ledger: ImportedLedger, klines: KlineStore, symbol: str, interval: Interval, now_ms: int) -> int:
    """Score what is due by the live candles that are known, MOST_AT_ONCE at most; `now_ms` is UTC ms. Returns how many scores
    were written.

    What has no candles is looked at again after the next one, and given up where the newest known one is LONGEST_WAIT_MS
    later: ingest brings no older candles than it has brought. Raises StoreUnavailableError or KlineError.
    """
    status = klines.status(symbol, interval)
    if status is None or status.origin != "live" or status.last_open_time_ms is None:
        return 0
    known_until_ms = status.last_open_time_ms + interval.ms
    due = ledger.due(symbol, interval, known_until_ms, MOST_AT_ONCE)
    scored = _scores(klines, [update for update in due.values() if update], now_ms)
    written = ledger.add_scores(symbol, interval, scored)
    hopeless = [key for key, update in due.items() if key not in scored and _is_hopeless(update, known_until_ms)]
    ledger.give_up(symbol, interval, hopeless)
    ledger.wait_on(symbol, interval, list(due.keys() - scored.keys() - set(hopeless)), known_until_ms + interval.ms)
    if due:
        log.info("imported_updates_scored", series=f"{symbol} {interval}", scored=written, given_up=len(hopeless))
    return written


def _scores(klines: KlineStore, updates: Sequence[ImportedUpdate], now_ms: int) -> dict[str, ImportedScores]:
    """By the key of their update, of one series; of those whose candles are stored."""
    if not updates:
        return {}
    symbol, interval = updates[0].symbol, updates[0].interval
    from_ms, until_ms = min(one.last_open_time_ms for one in updates), max(one.end_ms for one in updates)
    sources = list(stored_closes(klines, symbol, interval, from_ms, until_ms))
    return {one.key: scores for one in updates if (scores := score_update(one, sources, now_ms))}


def _is_hopeless(update: ImportedUpdate | None, known_until_ms: int) -> bool:
    """Also what another version wrote, which that version has to import again."""
    return update is None or update.end_ms + LONGEST_WAIT_MS <= known_until_ms


def stored_closes(
    klines: KlineStore, symbol: str, interval: Interval, from_ms: int, until_ms: int
) -> Iterator[KnownCloses]:
    """Of live candles alone, each venue's apart, for updates whose horizons lie between two moments (UTC ms)."""
    after_ms = from_ms - (RETURNS_BEFORE + 1) * interval.ms
    for venue in VENUES:
        found = klines.followed(symbol, interval, venue, "live", after_ms, (until_ms - after_ms) // interval.ms)
        if len(found):
            closes = dict(zip(found.open_times_ms.tolist(), found.values[:, CLOSE].tolist(), strict=True))
            yield KnownCloses(venue, closes)
