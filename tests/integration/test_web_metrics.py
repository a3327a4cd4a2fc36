"""/metrics over real HTTP, read as Prometheus reads it."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import httpx
import pytest
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.parser import text_string_to_metric_families
from redis import Redis

from services.web.metrics import METRICS
from services.web.records import Records
from services.web.situation import Stores
from shared.kline_store import SERIES_KEY
from shared.klines import Interval
from shared.ledger import Ledger, LedgerEntry, RecalibratedScores
from tests.builders import settings
from tests.conftest import skip_or_fail
from tests.house.metric_table import DOCUMENT
from tests.integration.test_web_record import SCORED, scored
from tests.web_server import (
    HOUR_MS,
    forecast_stored,
    ingest_alive,
    ingested,
    stores_on,
    unheard_of,
    web_server,
    worker_alive,
)

SERIES = {"symbol": "BTCUSDT", "interval": "1h", "origin": "live"}


def read(text: str) -> dict[str, Family]:
    """By name as exposed; a counter's family is parsed without its `_total`."""
    families = {}
    for family in text_string_to_metric_families(text):
        families[family.name + ("_total" if family.type == "counter" else "")] = family
    return families


def value(families: dict[str, Family], name: str, **labels: str) -> float:
    [found] = [one.value for one in families[name].samples if labels.items() <= one.labels.items()]
    return float(found)


def scraped(web: httpx.Client) -> dict[str, Family]:
    answer = web.get("/metrics")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/plain; version=0.0.4; charset=utf-8")
    return read(answer.text)


def with_drift(redis: Redis, entry: LedgerEntry, *, days: int = 400) -> None:
    """A ledger of a forecast a day whose 80 % band held a close in five, and of late none."""
    assert entry.scores
    for day in range(days):
        held = (day % 5 != 0) if day < days - 100 else False
        bands = [band.model_copy(update={"covered": [held] * len(band.covered)}) for band in entry.scores.bands]
        mapped = RecalibratedScores(bands=bands, upside=entry.scores.upside, volatility_amplification=None)
        crps = entry.scores.crps * (1 + 0.1 * (-1) ** day)
        told = {"bands": bands, "recalibrated": mapped, "crps": crps}
        changed = {"scores": entry.scores.model_copy(update=told)}
        named = {
            "forecast_id": f"day-{day}",
            "last_open_time_ms": entry.last_open_time_ms - (days - day) * 24 * HOUR_MS,
        }
        assert Ledger(redis).add(entry.model_copy(update={**changed, **named}))


def filled(web: httpx.Client, redis: Redis, stores: Stores) -> httpx.Client:
    """The web service, with something of everything in its Redis."""
    history = scored(redis)
    entry = LedgerEntry.model_validate(web.get("/api/v1/ledger?limit=1").json()["entries"][0])
    window = ingested(stores, last_open_time_ms=history.last_open_time_ms)
    forecast_stored(stores, window)
    with_drift(redis, entry)
    worker_alive(redis)
    ingest_alive(redis)
    return web


@pytest.fixture
def full_house(web: httpx.Client, redis: Redis, stores: Stores) -> httpx.Client:
    return filled(web, redis, stores)


def test_a_scrape_tells_what_the_document_lists_and_nothing_else(full_house: httpx.Client) -> None:
    families = scraped(full_house)
    assert set(families) == set(re.findall(r"^\| `(kronos_\w+)` \| web \|", DOCUMENT.read_text(), re.MULTILINE))
    for metric in METRICS:
        family = families[metric.name]
        assert (family.type, family.documentation) == (metric.kind, metric.meaning)
        assert all(set(sample.labels) == set(metric.labels) for sample in family.samples)


def test_what_is_told_is_what_the_api_tells(full_house: httpx.Client) -> None:
    families = scraped(full_house)
    answer = full_house.get("/api/v1/track-record").json()
    record = answer["record"]
    assert value(families, "kronos_scored_forecasts_total", **SERIES) == answer["entries"] == SCORED + 400
    assert value(families, "kronos_track_record_forecasts", **SERIES) == record["forecasts"]
    assert value(families, "kronos_track_record_forecasts_needed", **SERIES) == record["needed"]
    assert value(families, "kronos_crps_ratio", **SERIES, forecast="model") == pytest.approx(record["crps"] * 1e-4)
    for baseline in record["baselines"]:
        told = value(families, "kronos_crps_ratio", **SERIES, forecast=baseline["name"])
        assert told == pytest.approx(baseline["crps"] * 1e-4)
        told = value(families, "kronos_skill_against_ratio", **SERIES, baseline=baseline["name"])
        assert told == pytest.approx(baseline["skill"])
    for which, bands in (("raw", record["bands"]), ("recalibrated", record["recalibrated"]["bands"])):
        for band in bands:
            told = value(families, "kronos_coverage_ratio", **SERIES, level=str(band["level"]), bands=which)
            assert told == pytest.approx(band["covered"]["value"])
    for name, end in (
        ("kronos_skill_ratio", "value"),
        ("kronos_skill_lower_ratio", "lower"),
        ("kronos_skill_upper_ratio", "upper"),
    ):
        assert value(families, name, **SERIES) == pytest.approx(record["skill"][end])
    verdicts = {sample.labels["verdict"]: sample.value for sample in families["kronos_verdict"].samples}
    assert verdicts == {one: float(one == record["verdict"]) for one in ("too few", "edge", "no edge", "worse")}
    [info] = families["kronos_track_record_info"].samples
    assert info.labels["forecaster"] == record["forecaster"]["forecaster"]
    assert float(info.labels["temperature"]) == record["forecaster"]["temperature"]


def test_drift_is_told(full_house: httpx.Client) -> None:
    families = scraped(full_house)
    record = full_house.get("/api/v1/track-record").json()["record"]
    assert record["drift"]["drifted"]
    for of, told, observed in (("coverage", record["drift"], "covered"), ("skill", record["skill_drift"], "skill")):
        assert value(families, "kronos_drift", **SERIES, of=of) == told["drifted"]
        assert value(families, "kronos_drift_observed_ratio", **SERIES, of=of) == pytest.approx(told[observed])
        for end, name in (("lower", "expected_from"), ("upper", "expected_to")):
            expected = value(families, f"kronos_drift_expected_{end}_ratio", **SERIES, of=of)
            assert expected == pytest.approx(told[name])


def test_where_too_few_are_scored_nothing_is_claimed(web: httpx.Client, redis: Redis, stores: Stores) -> None:
    ingested(stores)
    nothing = scraped(web)
    assert value(nothing, "kronos_scored_forecasts_total", **SERIES) == 0
    assert "kronos_verdict" not in nothing
    scored(redis, 3)
    few = scraped(web)
    assert value(few, "kronos_scored_forecasts_total", **SERIES) == 3, "what was added since the last scrape is told"
    assert value(few, "kronos_verdict", **SERIES, verdict="too few") == 1
    told = [name for name in few if "skill" in name or "drift" in name]
    assert told == ["kronos_skill_against_ratio", "kronos_skill_ratio"]


def test_the_age_of_a_forecast_and_of_its_candle(web: httpx.Client, stores: Stores) -> None:
    window = ingested(stores)
    forecast_stored(stores, window)
    families = scraped(web)
    assert 0 <= value(families, "kronos_candle_age_seconds", **SERIES) < 3610
    latest = web.get("/api/v1/forecasts/latest").json()
    assert value(families, "kronos_forecast_stale", **SERIES) == float(latest["freshness"]["state"] == "stale") == 0
    assert value(families, "kronos_series_state", **SERIES, state="live") == 1
    states = [sample.value for sample in families["kronos_series_state"].samples]
    assert (len(states), sum(states)) == (4, 1)


def test_a_series_that_nobody_keeps_up_is_stale(web: httpx.Client, stores: Stores) -> None:
    window = ingested(stores, last_open_time_ms=1_735_686_000_000)
    forecast_stored(stores, window)
    families = scraped(web)
    assert value(families, "kronos_series_state", **SERIES, state="stale") == 1
    assert value(families, "kronos_forecast_stale", **SERIES) == 1
    assert value(families, "kronos_candle_age_seconds", **SERIES) > 3600 * 24 * 300


def test_the_queue_by_state_and_who_works_it(web: httpx.Client, redis: Redis, stores: Stores) -> None:
    ingested(stores)
    ids = [web.post("/api/v1/forecasts", json={"seed": seed}).json()["id"] for seed in range(4)]
    worker, killed = worker_alive(redis), worker_alive(redis)
    unheard_of(redis, killed.name, seconds=90)
    ingest_alive(redis)
    redis.lrem("rq:queue:forecasts", 1, ids[0])
    redis.zadd("rq:wip:forecasts", {f"{ids[0]}:{worker.name}": 9e12})
    redis.zadd("rq:failed:forecasts", {ids[1]: 9e12, "forgotten": 1})
    redis.hset(f"rq:job:{ids[1]}", "enqueued_at", "2026-01-01T00:00:00.000000Z")
    families = scraped(web)
    states = {sample.labels["state"]: sample.value for sample in families["kronos_queue_jobs"].samples[:4]}
    assert states == {"queued": 3, "waiting for klines": 0, "running": 1, "failed": 1}
    assert value(families, "kronos_queue_oldest_job_age_seconds", queue="forecasts") > 86_400
    assert value(families, "kronos_queue_jobs_limit", queue="forecasts") == settings().limits.max_queued
    at_hand = {(one.labels["queue"], one.labels["state"]): one.value for one in families["kronos_workers"].samples}
    assert at_hand == {
        ("forecasts", "alive"): 1,
        ("forecasts", "silent"): 1,
        ("ingest", "alive"): 1,
        ("ingest", "silent"): 0,
    }


def test_an_absent_redis_is_told_and_no_error(tmp_path: Path) -> None:
    with web_server("redis://:a-secret@127.0.0.1:1/0", tmp_path) as (address, _):
        answer = httpx.get(f"{address}/metrics", timeout=30, trust_env=False)
    assert answer.status_code == 200
    families = read(answer.text)
    assert set(families) == {"kronos_redis_up", "kronos_build_info"}
    assert value(families, "kronos_redis_up") == 0
    assert "a-secret" not in answer.text


def test_a_hostile_name_cannot_break_the_format(web: httpx.Client, redis: Redis, stores: Stores) -> None:
    ingested(stores)
    name = 'X"} 1\nkronos_redis_up 0\r\n# TYPE kronos_redis_up counter\n\\'
    series = stores.klines.status("BTCUSDT", Interval.H1)
    assert series
    redis.hset(SERIES_KEY, "hostile", series.model_copy(update={"symbol": name}).model_dump_json())
    families = scraped(web)
    assert [sample.value for sample in families["kronos_redis_up"].samples] == [1]
    assert {one.labels["symbol"] for one in families["kronos_series_state"].samples} == {"BTCUSDT", name}


@pytest.mark.parametrize("accept", ["application/openmetrics-text; version=odd", "text/plain; version=;;", "text/html"])
def test_whoever_asks_gets_the_one_format(web: httpx.Client, accept: str) -> None:
    answer = web.get("/metrics", headers={"Accept": accept})
    assert (answer.status_code, answer.headers["cache-control"]) == (200, "no-store")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")


def test_what_is_not_there_is_a_problem_for_programs(web: httpx.Client) -> None:
    answer = web.post("/metrics", headers={"Accept": "text/html"})
    assert (answer.status_code, answer.headers["content-type"]) == (405, "application/problem+json")


def test_promtool_finds_nothing_to_say_against(full_house: httpx.Client) -> None:
    if shutil.which("promtool") is None:
        skip_or_fail("promtool", "no promtool is on the PATH (it is in Debian's package prometheus)")
    checked = subprocess.run(
        ["promtool", "check", "metrics"],
        input=full_house.get("/metrics").text,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")


def test_many_new_entries_are_read_a_series_at_a_time_and_none_is_forgotten(web: httpx.Client, redis: Redis) -> None:
    """With no time for it one record is computed in a look, and each has its turn."""
    scored(redis, 3)
    entry = LedgerEntry.model_validate(web.get("/api/v1/ledger?limit=1").json()["entries"][0])
    symbols = [f"S{n}USDT" for n in range(4)]
    for symbol in symbols:
        assert Ledger(redis).add(entry.model_copy(update={"symbol": symbol}))
    records, names = Records(stores_on(redis)), [(symbol, Interval.H1, "live") for symbol in symbols]

    def look() -> list[tuple[str, int]]:
        return [(one.symbol, one.entries) for one in records.read_all(names, within_s=0)]  # type: ignore[arg-type]

    assert [len(look()) for _ in range(5)] == [1, 2, 3, 4, 4]
    for symbol in symbols:
        assert Ledger(redis).add(entry.model_copy(update={"symbol": symbol, "forecast_id": "another"}))
    looks = [dict(look()) for _ in range(4)]
    assert [sum(found.values()) for found in looks] == [5, 6, 7, 8]
