"""Track records, ledgers and outcomes as tables for people."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console

from services.cli.imported_views import show_imported
from services.cli.tables import print_table
from shared.forecasts import BASELINE_NAMES, Forecast
from shared.klines import CLOSE, Interval, utc
from shared.ledger import BandScore, EventScore, LedgerEntry, ShownBook
from shared.outcome import Outcome
from shared.prices import price
from shared.record_tables import (
    baseline_rows,
    counts_sentence,
    coverage_rows,
    drift_sentences,
    event_rows,
    forecaster_rows,
    headline,
)
from shared.series_record import SeriesRecord
from shared.track_record import TrackRecord

NOT_LIVE = "These are scores of forecasts on klines that are not live. They never mix with those of live ones."


def show_record(found: SeriesRecord) -> None:
    """One series; nothing is claimed that is not known yet."""
    console, record = Console(), found.record
    if record is None:
        console.print(
            f"{found.symbol} {found.interval}: none of its {found.origin} forecasts has been scored yet. That is done when the "
            "last candle of one has closed."
        )
    else:
        _show_own(console, found, record)
    for one in found.imported:
        show_imported(console, one, found.origin)


def _show_own(console: Console, found: SeriesRecord, record: TrackRecord) -> None:
    by = record.forecaster
    console.print(
        f"\n{found.symbol} {found.interval}, {found.origin.upper()}: {by.model}, {by.horizon} candles ahead, "
        f"temperature {by.temperature:g}, top-p {by.top_p:g}",
        markup=False,
    )
    if found.origin != "live":
        console.print(NOT_LIVE, style="yellow")
    show_verdict(console, record)
    show_record_tables(console, record)
    if len(found.forecasters) > 1:
        print_table(
            console,
            "Settings, each over its own forecasts (--forecaster shows one)",
            forecaster_rows(found.forecasters),
        )
    console.print(counts_sentence(record))


def show_verdicts(records: Sequence[SeriesRecord], left_out: Sequence[str]) -> None:
    """A line for each series, and one for what has drifted; `left_out` are those of which nobody has looked."""
    console = Console()
    for one in records:
        if one.record is None:
            continue
        name = f"{one.symbol} {one.interval}{'' if one.origin == 'live' else f' ({one.origin.upper()})'}"
        console.print(f"{name}: {headline(one.record)}", markup=False)
        for drifted, sentence in drift_sentences(one.record):
            if drifted:
                console.print(f"{name}: {sentence}", style="bold red", markup=False)
    if left_out:
        console.print(
            f"The track records of {', '.join(left_out)} take longer: `kronos-live track-record SYMBOL` has them."
        )


def show_verdict(console: Console, record: TrackRecord) -> None:
    """What a person should read first."""
    console.print(headline(record), style="bold")
    for drifted, sentence in drift_sentences(record):
        console.print(sentence, style="bold red" if drifted else None)


def show_record_tables(console: Console, record: TrackRecord) -> None:
    print_table(console, "CRPS beside the baselines, in 1e-4 of the last close", baseline_rows(record))
    print_table(console, "What share of the closes the bands held", coverage_rows(record))
    print_table(console, "Probabilities: Brier score (0.25 is what a constant one half scores)", event_rows(record))


def show_ledger(symbol: str, interval: Interval, origin: ShownBook, entries: Sequence[LedgerEntry]) -> None:
    """A line for each, in the order given."""
    console = Console()
    if not entries:
        console.print(f"There is no entry in the ledger of {origin} {symbol} {interval} that would be of that time.")
        return
    head = ["forecast", "after (UTC)", "CRPS", "best baseline", "80 % held", "recalibrated", "up: said, came"]
    rows = [[entry.forecast_id, _minute(entry.last_open_time_ms), *_scored(entry)] for entry in entries]
    title = f"{symbol} {interval}, {origin.upper()}: what became of forecasts; CRPS in 1e-4 of the last close"
    print_table(console, title, (head, rows), whole=2)
    for entry in entries:
        if entry.problem:
            console.print(f"{entry.forecast_id}: {entry.problem}", markup=False)


def _scored(entry: LedgerEntry) -> list[str]:
    scores = entry.scores
    if scores is None:
        return ["not scored", "", "", "", ""]
    name, best = min(
        ((name, one.crps) for name, one in scores.baselines.items()), key=lambda one: one[1], default=("", 0)
    )
    beside = scores.recalibrated
    return [
        f"{scores.crps:.1f}",
        f"{best:.1f} {BASELINE_NAMES.get(name, name)}" if name else "",
        _covered(scores.bands),
        _covered(beside.bands) if beside else "",
        _said(scores.upside),
    ]


def show_outcome(forecast: Forecast, found: Outcome) -> None:
    """One forecast, whole as it is kept."""
    console, request, made = Console(), forecast.request, forecast.provenance
    console.print(
        f"\n{forecast.id}: {request.symbol} {request.interval} after {utc(forecast.last_open_time_ms)}, "
        f"{made.venue} ({made.origin.upper()}), {made.model.name} ({made.model.source.upper()})",
        markup=False,
    )
    kept = len(found.steps)
    console.print(
        f"{found.closed} of {found.horizon} candles have closed since"
        + ("." if kept == found.closed else f"; {kept} of them are kept.")
    )
    if found.comparison is not None:
        _show_candles(console, forecast, found)
    _show_scores(console, found.entry)
    console.print("One forecast, not a track record.")


def _show_candles(console: Console, forecast: Forecast, found: Outcome) -> None:
    bands = sorted(forecast.close.bands, key=lambda band: band.level)
    head = ["step", "open time (UTC)", "close", "median forecast", *(f"{band.level} %" for band in bands)]
    rows = []
    for step, open_time, candle in zip(found.steps, found.open_times_ms, found.candles, strict=True):
        close, at = candle[CLOSE], step - 1
        inside = ["yes" if band.lower[at] <= close <= band.upper[at] else "NO" for band in bands]
        rows.append([str(step), _minute(open_time), price(close), price(forecast.close.median[at]), *inside])
    print_table(console, "What then happened, and whether the bands held it", (head, rows), whole=2)
    compared = found.comparison
    if compared is None:
        return
    held = ", ".join(f"{band.level} %: {band.inside} of {band.of}" for band in compared.bands)
    console.print(
        f"Close of step {compared.step}: {price(compared.close)} ({compared.change:+.2%} since the last known one); the median "
        f"was off by {compared.median_error:+.2%}. Bands held {held}."
    )
    if compared.ended_above is not None:
        ended = "ended" if compared.ended_above else "did not end"
        console.print(f"It {ended} above the last known close; the upside probability was {compared.upside:.1%}.")


def show_entry(entry: LedgerEntry) -> None:
    """What is left of a forecast that is kept no longer."""
    console = Console()
    console.print(
        f"\n{entry.forecast_id}: {entry.symbol} {entry.interval} after {utc(entry.last_open_time_ms)}, "
        f"{entry.venue} ({entry.origin.upper()}), {entry.model}. The forecast itself is kept no longer.",
        markup=False,
    )
    _show_scores(console, entry)
    console.print("One forecast, not a track record.")


def _show_scores(console: Console, entry: LedgerEntry | None) -> None:
    if entry is None:
        console.print("It has no entry in the ledger: it is not over yet, or nobody's schedule made it.")
        return
    if entry.problem:
        console.print(f"Of its scores: {entry.problem}", markup=False)
    if entry.scores is None:
        return
    scores = entry.scores
    rows = [[entry.model, f"{scores.crps:.1f}", _covered(scores.bands), _said(scores.upside)]]
    for name, one in scores.baselines.items():
        held = f"{one.covered[80]:.0%}" if 80 in one.covered else ""
        rows.append([BASELINE_NAMES.get(name, name), f"{one.crps:.1f}", held, _said(one.upside)])
    head = ["forecast", "CRPS", "80 % band held", "up: said, came"]
    print_table(console, f"Scores, written {utc(entry.scored_at_ms)}: CRPS in 1e-4 of the last close", (head, rows))


def _covered(bands: Sequence[BandScore], level: int = 80) -> str:
    known = [step for band in bands if band.level == level for step in band.covered if step is not None]
    return f"{sum(known) / len(known):.0%}" if known else ""


def _minute(at_ms: int) -> str:
    return utc(at_ms)[:16]


def _said(event: EventScore | None) -> str:
    return f"{event.probability:.0%}, {'yes' if event.happened else 'no'}" if event else ""
