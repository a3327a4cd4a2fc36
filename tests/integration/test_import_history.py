"""`kronos-live import-history` on real git repositories and a real Redis: what a demo's page has said, apart from all of ours."""

from __future__ import annotations

import csv
import gzip
import json
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from redis import Redis

from services.web.situation import Stores
from shared.imported_ledger import ImportedEntry, ImportedLedger
from shared.klines import CLOSE, Interval, KlineWindow, utc
from shared.ledger import Ledger
from tests.builders import kline_window
from tests.demo_history import FIRST_MS, HOUR_MS, DemoRepository, at, page
from tests.integration.conftest import Run

HOURS = 30
BEFORE = 25  # candles that the first update needs


@pytest.fixture
def demo(tmp_path: Path) -> DemoRepository:
    repository = DemoRepository(tmp_path / "demo")
    for hour in range(HOURS):
        repository.publish(hour, f"{hour + 20}.5%", f"{hour + 10}.0%")
    return repository


@pytest.fixture
def candles() -> KlineWindow:
    """Enough for all updates, the first of which knows candle BEFORE - 1."""
    return kline_window(BEFORE + HOURS + 23, start_ms=FIRST_MS - BEFORE * HOUR_MS)


def entries(redis: Redis) -> list[ImportedEntry]:
    return ImportedLedger(redis).entries("BTCUSDT", Interval.H1)


def imported(run: Run, source: object, *more: str) -> dict[str, object]:
    done = run("import-history", str(source), *more, "--json")
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


def write_klines(folder: Path, window: KlineWindow, name: str = "BTCUSDT-1h.csv.gz") -> Path:
    """As `kronos-live klines` writes them."""
    folder.mkdir(exist_ok=True)
    with gzip.open(folder / name, "wt", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["open_time", "open", "high", "low", "close", "volume", "amount"])
        writer.writerows([time, *row] for time, row in zip(window.open_times_ms, window.values.tolist(), strict=True))
    return folder / name


def test_a_history_is_scored_by_the_candles_in_the_store(
    run: Run, redis: Redis, stores: Stores, demo: DemoRepository, candles: KlineWindow
) -> None:
    stores.klines.save(candles)
    told = imported(run, demo.folder)
    assert {name: told[name] for name in ("pages", "new", "known", "refused", "scored", "newly_scored", "waiting")} == {
        "pages": HOURS,
        "new": HOURS,
        "known": 0,
        "refused": 0,
        "scored": HOURS,
        "newly_scored": HOURS,
        "waiting": 0,
    }
    closes = candles.values[:, CLOSE]
    returns = np.diff(np.log(closes))
    for hour, entry in enumerate(entries(redis)):
        update, scores, known = entry.update, entry.scores, BEFORE - 1 + hour
        assert scores is not None
        assert scores.volatility_amplification is not None
        assert update.forecaster == "kronos-demo (imported)"
        assert (update.last_open_time_ms, update.updated_at_ms) == (
            int(candles.open_times_ms[known]),
            FIRST_MS + hour * HOUR_MS + 26_000,
        )
        assert (update.upside, update.volatility_amplification) == (
            pytest.approx((hour + 20.5) / 100),
            pytest.approx((hour + 10) / 100),
        )
        assert (scores.klines, scores.last_close, scores.close) == ("binance", closes[known], closes[known + 24])
        assert scores.upside.happened == (closes[known + 24] > closes[known])
        assert scores.volatility_amplification.happened == (
            returns[known : known + 24].std(ddof=1) > returns[known - 24 : known].std(ddof=1)
        )
    first = entries(redis)[0].update
    assert (first.repository, first.commit) == ("demo", demo.git("rev-list", "--reverse", "HEAD").split()[0])
    assert first.committed_at_ms == FIRST_MS + 60_000


def test_nothing_of_it_stands_in_a_ledger_of_ours(
    run: Run, redis: Redis, stores: Stores, demo: DemoRepository, candles: KlineWindow
) -> None:
    stores.klines.save(candles)
    before = set(redis.keys("kronos:*"))
    imported(run, demo.folder)
    assert set(redis.keys("kronos:*")) - before == {
        b"kronos:imported:BTCUSDT:1h",
        b"kronos:imported-scores:BTCUSDT:1h",
    }
    assert Ledger(redis).entries("BTCUSDT", Interval.H1, "live") == []


def test_importing_again_adds_and_scores_only_what_is_new(
    run: Run, redis: Redis, stores: Stores, demo: DemoRepository, candles: KlineWindow, tmp_path: Path
) -> None:
    stores.klines.save(replace(candles, open_times_ms=candles.open_times_ms[:-10], values=candles.values[:-10]))
    assert imported(run, demo.folder)["scored"] == HOURS - 10
    kept = entries(redis)
    demo.publish(HOURS)
    demo.commit(page(at(HOURS)).replace(b"<html", b"<html class='new'"), HOURS + 5)  # another look, no news
    demo.publish(HOURS + 6)
    demo.commit(page(at(HOURS + 6, second=900), "1.0%"), HOURS + 6.3)  # a second update of the same candle
    again = imported(run, demo.folder)
    assert (again["new"], again["known"], again["repeated"], again["newly_scored"]) == (2, HOURS, 2, 0)
    file = write_klines(tmp_path / "klines", candles)
    third = imported(run, f"file://{demo.folder}", "--klines", str(file))  # clones, which it says on standard error
    assert (third["new"], third["newly_scored"], third["scored"]) == (0, 10, HOURS)
    assert entries(redis)[: HOURS - 10] == kept[: HOURS - 10]
    assert {one.scores.klines for one in entries(redis)[HOURS - 10 : HOURS] if one.scores} == {"file BTCUSDT-1h.csv.gz"}
    assert [one.update.upside for one in entries(redis)[HOURS:]] == [pytest.approx(0.467)] * 2


def test_pages_that_cannot_be_taken_are_counted_and_the_first_reasons_are_told(run: Run, demo: DemoRepository) -> None:
    for place, content in enumerate(
        (
            b"<html>no figures</html>",
            page(at(HOURS + 1), "130.0%"),
            b"\xff\xfe\x00",
            b"x" * 70_000,
            page(at(HOURS + 9)),  # of a time after its commit
            page(at(0.5 - HOURS)),  # long before its commit
            page("soon"),
        )
    ):
        demo.commit(content, HOURS + 1 + place / 10)
    done = run("import-history", str(demo.folder))
    assert done.returncode == 0
    told = " ".join(done.stdout.split())
    first_day = utc(FIRST_MS - (BEFORE + 1) * HOUR_MS)[:10]
    assert "37 pages read, 30 updates new, 0 there before, 0 pages without news, 7 refused." in told
    for reason in (
        "has no element with the id update-time, but one is needed.",
        "gives '130.0%' as upside-prob, but a share from 0% to 100% is needed.",
        "is not UTF-8.",
        "is 70,000 bytes long, but at most 65,536 are read.",
        "by what it says, which is later than its commit.",
        "And 2 more were refused.",
        "0 of 30 updates are scored, 0 of them just now; of 0 the horizon is not over, and of 30 no candles are at hand.",
        "What comes to have candles is scored by itself, where ingest keeps up BTCUSDT 1h and a worker runs.",
        f"`kronos-live klines BTCUSDT --interval 1h --from {first_day} --out klines/` fetches candles, and the same command "
        "again with --klines klines/BTCUSDT-1h.csv.gz scores with them.",
    ):
        assert reason in told


def test_an_update_that_was_published_after_its_candle_is_refused(run: Run, tmp_path: Path) -> None:
    late = DemoRepository(tmp_path / "late")
    late.commit(page(at(0)), 1.5)
    done = run("import-history", str(late.folder))
    assert done.returncode == 2
    assert "None of the 1 pages could be taken; the page of commit" in done.stderr
    assert "so that what followed may have been known." in done.stderr


def test_what_was_said_first_is_kept_when_a_history_is_rewritten(
    run: Run, redis: Redis, demo: DemoRepository, tmp_path: Path
) -> None:
    imported(run, demo.folder)
    rewritten = DemoRepository(tmp_path / "rewritten")
    for hour in range(3):
        rewritten.publish(hour, "99.0%")
    for repository in (demo, rewritten):
        repository.git("remote", "add", "origin", "https://example.invalid/owner/demo.git")
    refused = run("import-history", str(rewritten.folder))
    assert refused.returncode == 2
    assert (
        "is what demo says of 24 candles ahead, not what example.invalid/owner/demo says of 24: give this one a name"
        in refused.stderr
    )
    apart = imported(run, rewritten.folder, "--name", "other")
    assert (apart["forecaster"], apart["new"]) == ("other (imported)", 3)
    redis.flushdb()
    imported(run, demo.folder)
    told = imported(run, rewritten.folder)
    assert (told["known"], told["differing"], told["new"]) == (3, 3, 0)
    assert [one.update.upside for one in entries(redis)[:3]] == [
        pytest.approx(share) for share in (0.205, 0.215, 0.225)
    ]


def test_another_horizon_needs_another_name(run: Run, demo: DemoRepository) -> None:
    imported(run, demo.folder)
    assert (
        "give this one a name of its own with --name"
        in run("import-history", str(demo.folder), "--horizon", "12").stderr
    )
    assert imported(run, demo.folder, "--horizon", "12", "--name", "half-day")["new"] == HOURS


def test_an_update_whose_horizon_is_not_over_waits(run: Run, redis: Redis, tmp_path: Path) -> None:
    fresh = DemoRepository(tmp_path / "fresh")
    now_s = int(time.time())
    hour = (now_s * 1000 - FIRST_MS) // HOUR_MS
    fresh.commit(page(at(hour, second=0)), hour)
    told = imported(run, fresh.folder)
    assert (told["new"], told["waiting"], told["scored"]) == (1, 1, 0)


def test_simulated_candles_and_gaps_score_nothing(
    run: Run, redis: Redis, stores: Stores, demo: DemoRepository, candles: KlineWindow, tmp_path: Path
) -> None:
    stores.klines.save(replace(candles, venue="simulated", origin="simulated"))
    assert imported(run, demo.folder)["scored"] == 0
    gap = BEFORE + HOURS // 2  # a candle that many updates have within their horizon, and some at an end of it
    left = np.arange(len(candles)) != gap
    file = tmp_path / "BTCUSDT-1h.csv"
    rows = zip(candles.open_times_ms[left].tolist(), candles.values[left].tolist(), strict=True)
    file.write_text(
        "open_time,open,high,low,close,volume\n"
        + "".join(f"{time},{','.join(map(repr, row[:5]))}\n" for time, row in rows)
    )
    told = imported(run, demo.folder, "--klines", str(file))
    scores = [one.scores for one in entries(redis)]
    assert told["scored"] == sum(one is not None for one in scores) == HOURS - 1
    assert all(one.volatility_amplification is None for one in scores if one)


def test_it_says_that_it_clones_and_how_far_the_pages_are(run: Run, demo: DemoRepository) -> None:
    told = run("import-history", f"file://{demo.folder}").stderr
    assert f"Cloning file://{demo.folder}: commits and small files, for 30 minutes at most." in told
    assert f"{HOURS}/{HOURS}" in told


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("nowhere",), "'nowhere' is neither a folder nor the address of a git repository"),
        (("{demo}", "--symbol", "btc"), "'btc' is no symbol"),
        (("{demo}", "--name", "a|b"), "--name is 'a|b', but allowed are up to 40 letters"),
        (("{demo}", "--branch", "pages"), "There is no branch 'pages' in 'demo'; it has main."),
        (("{demo}", "--branch=--output=x"), "'--output=x' is no branch"),
        (("{demo}", "--klines", "{demo}/ETHUSDT-1h.csv"), "its candles are of ETHUSDT, but BTCUSDT is imported"),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_sentence(
    run: Run, demo: DemoRepository, words: tuple[str, ...], reason: str
) -> None:
    (demo.folder / "ETHUSDT-1h.csv").write_text("open_time,open,high,low,close,volume\n")
    done = run("import-history", *(word.format(demo=demo.folder) for word in words))
    assert done.returncode == 2
    [line] = done.stderr.strip().splitlines()
    assert reason in line


def test_entries_that_another_version_wrote_are_left_out_and_stay(run: Run, redis: Redis, demo: DemoRepository) -> None:
    imported(run, demo.folder)
    first = entries(redis)[0].update
    redis.hset("kronos:imported:BTCUSDT:1h", first.key, '{"of": "another version"}')
    assert len(entries(redis)) == HOURS - 1
    assert imported(run, demo.folder)["new"] == 0
    assert redis.hget("kronos:imported:BTCUSDT:1h", first.key) == b'{"of": "another version"}'
