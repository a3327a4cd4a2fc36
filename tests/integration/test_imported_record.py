"""Imported forecasters where people look: in the terminal, on the track record's page, in the API and in the Python client."""

from __future__ import annotations

import httpx
import pytest
from redis import Redis

from services.web.situation import Stores
from shared.client import KronosLive
from shared.imported_ledger import ImportedLedger, ImportedScores, ImportedUpdate
from shared.klines import Interval
from shared.ledger import EventScore, Ledger, LedgerEntry
from shared.series_record import SeriesRecord
from tests.integration.conftest import Run
from tests.integration.test_web_record import scored
from tests.web_server import ingested

HOUR_MS = 3_600_000
NAME = "kronos-demo (imported)"
REPOSITORY = "example.invalid/[red]<b>owner</b>"  # of others, so it may say anything
H1 = Interval.H1
OF_RECORDS = ("kronos_coverage", "kronos_crps", "kronos_skill", "kronos_verdict", "kronos_drift", "kronos_scored")


def published(redis: Redis, entries: list[LedgerEntry], *, later_ms: int = 0, scored: bool = True) -> None:
    """A half for each candle of the entries, and what then happened."""
    ledger = ImportedLedger(redis)
    for entry in entries:
        update = ImportedUpdate(
            forecaster=NAME,
            symbol=entry.symbol,
            interval=entry.interval,
            horizon=entry.horizon,
            last_open_time_ms=entry.last_open_time_ms + later_ms,
            updated_at_ms=entry.last_open_time_ms + later_ms + HOUR_MS + 26_000,
            upside=0.5,
            volatility_amplification=0.1,
            repository=REPOSITORY,
            commit="a" * 40,
            committed_at_ms=entry.last_open_time_ms + later_ms + HOUR_MS + 60_000,
            imported_at_ms=entry.scored_at_ms,
        )
        ledger.add("BTCUSDT", H1, [update])
        assert entry.scores
        assert entry.scores.upside
        scores = ImportedScores(
            klines="binance",
            last_close=entry.last_close,
            close=entry.last_close + (1 if entry.scores.upside.happened else -1),
            upside=EventScore(probability=0.5, happened=entry.scores.upside.happened),
            volatility_amplification=EventScore(probability=0.1, happened=False),
            scored_at_ms=entry.scored_at_ms,
        )
        if scored:
            assert ledger.add_scores("BTCUSDT", H1, {update.key: scores}) == 1


def ours(redis: Redis, count: int = 40) -> list[LedgerEntry]:
    scored(redis, count)
    return Ledger(redis).entries("BTCUSDT", H1, "live")


def words(text: str) -> str:
    return " ".join(text.split())


def test_the_terminal_shows_it_beside_ours_over_the_same_moments(run: Run, redis: Redis) -> None:
    entries = ours(redis)
    alone = run("track-record").stdout
    assert "imported" not in alone
    published(redis, entries[10:30])
    shown = run("track-record").stdout
    assert shown.startswith(alone)
    told = words(shown[len(alone) :])
    assert f"{NAME}, imported from {REPOSITORY}: 20 updates, after " in told
    assert "24 candles ahead. It counts for nothing above. 20 are scored, by the candles of binance." in told
    assert "Brier score over the same moments, from " in told
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in shown.splitlines() if "│" in line]
    own, beside = [row for row in rows if row[:2] == ["above the last close at the end", "20"]]
    happened = sum(bool(one.scores and one.scores.upside and one.scores.upside.happened) for one in entries[10:30]) / 20
    assert own[2:] == ["0.250", "0.250", f"{happened * (1 - happened):.3f}", f"{happened:.0%}"]
    briers = [one.scores.upside.brier for one in entries[10:30] if one.scores and one.scores.upside]
    mean = sum(briers) / len(briers)
    assert beside[2:] == ["0.250", f"{mean:.3f}", f"{0.25 - mean:+.3f}", "0.250"]


def test_where_there_are_no_same_moments_it_says_so(run: Run, redis: Redis) -> None:
    published(redis, ours(redis, 3), later_ms=1000 * HOUR_MS)
    assert "There are no candles after which both it and ours have a scored forecast of the same horizon" in words(
        run("track-record").stdout
    )


def test_what_is_not_live_is_not_compared(run: Run, redis: Redis, stores: Stores) -> None:
    scored(redis, 3, origin="simulated")
    ingested(stores, origin="simulated")
    published(redis, Ledger(redis).entries("BTCUSDT", H1, "simulated"))
    shown = words(run("track-record").stdout)
    assert "Ours are of SIMULATED klines, so they are not compared." in shown
    assert "over the same moments" not in shown


def test_it_is_shown_where_there_is_nothing_of_ours_and_before_it_is_scored(run: Run, redis: Redis) -> None:
    entries = ours(redis, 3)
    redis.flushdb()
    published(redis, entries, scored=False)
    shown = words(run("track-record").stdout)
    assert "BTCUSDT 1h: none of its live forecasts has been scored yet." in shown
    assert "None of them is scored yet: their horizon is not over, or no candles are at hand." in shown


def test_the_api_and_the_client_have_it_and_the_rest_of_the_record_is_what_it_was(
    web: httpx.Client, web_address: str, redis: Redis
) -> None:
    entries = ours(redis)
    before = web.get("/api/v1/track-record").json()
    ledger = web.get("/api/v1/ledger.csv").text
    assert before["imported"] == []
    published(redis, entries)
    after = web.get("/api/v1/track-record").json()
    [imported] = after.pop("imported")
    del before["imported"]
    assert after == before
    assert web.get("/api/v1/ledger.csv").text == ledger
    assert (imported["forecaster"], imported["repository"], imported["scored"]) == (NAME, REPOSITORY, 40)
    own = [one.scores.upside.brier for one in entries if one.scores and one.scores.upside]
    assert imported["beside"]["upside"]["brier_of_ours"] == pytest.approx(sum(own) / len(own))
    assert imported["beside"]["upside"]["difference"]["value"] == pytest.approx(0.25 - sum(own) / len(own))
    with KronosLive(web_address) as kronos:
        found = kronos.track_record("BTCUSDT")
        rows = kronos.imported("BTCUSDT")
    assert list(rows["forecaster"].unique()) == [NAME]
    assert [int(at.timestamp() * 1000) for at in rows.index] == [one.last_open_time_ms for one in entries]
    assert (
        rows["upside_happened"] == [one.scores.upside.happened for one in entries if one.scores and one.scores.upside]
    ).all()
    assert isinstance(found, SeriesRecord)
    assert [one.model_dump(mode="json") for one in found.imported] == [imported]
    published(redis, entries[:1], later_ms=-HOUR_MS)
    assert web.get("/api/v1/track-record").json()["imported"][0]["updates"] == 41


def test_the_page_has_a_card_of_it_in_both_languages_and_believes_no_markup(web: httpx.Client, redis: Redis) -> None:
    entries = ours(redis)
    assert 'id="imported"' not in web.get("/track-record").text
    published(redis, entries)
    page = words(web.get("/track-record").text)
    assert "Published elsewhere, and imported" in page
    assert f">{NAME}</h3>" in page
    assert "example.invalid/[red]&lt;b&gt;owner&lt;/b&gt;" in page
    assert "Over the same moments" in page
    assert '<th scope="row">above the last close at the end</th><td>40</td><td><strong>0.250</strong></td>' in page
    assert "相同时刻对比" in web.get("/track-record", headers={"Accept-Language": "zh"}).text
    redis.flushdb()
    published(redis, entries, scored=False)
    page = words(web.get("/track-record").text)
    assert "None is scored yet: their horizon is not over, or no candles are at hand." in page


def test_every_update_comes_as_csv_also_unscored_ones_and_only_when_something_was_added(
    web: httpx.Client, redis: Redis
) -> None:
    empty = web.get("/api/v1/imported.csv")
    assert empty.text.startswith("forecaster,symbol,interval,horizon,last_open_time_ms,")
    assert empty.text.count("\n") == 1
    entries = ours(redis, 2)
    published(redis, entries[:1])
    published(redis, entries[1:], scored=False)
    answer = web.get("/api/v1/imported.csv")
    head, newest, oldest = (line.split(",") for line in answer.text.splitlines())
    assert answer.headers["Content-Disposition"] == 'attachment; filename="imported-BTCUSDT-1h.csv"'
    assert dict(zip(head, newest, strict=True))["upside_happened"] == ""
    assert dict(zip(head, oldest, strict=True))["klines"] == "binance"
    again = web.get("/api/v1/imported.csv", headers={"If-None-Match": answer.headers["ETag"]})
    assert again.status_code == 304
    published(redis, entries[1:])
    assert (
        web.get("/api/v1/imported.csv", headers={"If-None-Match": answer.headers["ETag"]}).text.splitlines()[1]
        != newest
    )
    assert web.get("/api/v1/imported.csv?limit=3").status_code == 422


def test_no_figure_for_prometheus_counts_it(web: httpx.Client, redis: Redis, stores: Stores) -> None:
    entries = ours(redis)
    ingested(stores)

    def of_records() -> list[str]:
        return [line for line in web.get("/metrics").text.splitlines() if line.startswith(OF_RECORDS)]

    before = of_records()
    assert {line.partition("{")[0] for line in before} >= {"kronos_coverage_ratio", "kronos_crps_ratio"}
    published(redis, entries)
    assert of_records() == before
