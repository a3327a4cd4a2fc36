"""`kronos-live export` as a person types it: a static site that says what the page of the web service says."""

from __future__ import annotations

from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from redis import Redis

from services.publishing.page import index_page
from services.publishing.site import site_files
from services.publishing.told import Told, tell
from services.web.situation import Stores
from shared.errors import PublishError
from shared.freshness import GRACE_MS
from shared.klines import Interval
from tests.builders import START_MS
from tests.integration.conftest import Run
from tests.integration.test_web_record import scored
from tests.recalibrated_forecasts import newest_forecast
from tests.web_server import HOUR_MS, forecast_stored, ingested, newest_closed_candle

PNG = b"\x89PNG\r\n\x1a\n"
NAMES = {"index.html", "style.css", "prediction_chart.png"}


class _Words(HTMLParser):
    """The text of a page, and the addresses that it names."""

    def __init__(self) -> None:
        super().__init__()
        self.text = ""
        self.addresses: list[str] = []
        self.tags: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.addresses += [value for name, value in attrs if name in {"href", "src"} and value]

    def handle_data(self, data: str) -> None:
        self.text += data


def words(html: str) -> _Words:
    read = _Words()
    read.feed(html)
    read.text = " ".join(read.text.split())
    return read


def told(stores: Stores, now_ms: int | None = None, *, calibrates: bool = True) -> Told:
    at = now_ms or newest_closed_candle() + HOUR_MS + 10_000
    return tell(stores.klines, stores.forecasts, "BTCUSDT", Interval.H1, at, calibrates=calibrates)


def titles(told: Told) -> list[str]:
    return [one.title for one in told.said]


def test_the_newest_forecast_becomes_a_folder_that_needs_nothing_beside_it(
    run: Run, stores: Stores, tmp_path: Path
) -> None:
    forecast = forecast_stored(stores, ingested(stores))
    out = tmp_path / "a" / "site"
    shown = run("export", "--out", str(out))
    assert shown.returncode == 0, shown.stderr
    assert forecast.id in shown.stdout
    assert {file.name for file in out.iterdir()} == NAMES
    assert (out / "prediction_chart.png").read_bytes().startswith(PNG)
    page = words((out / "index.html").read_text())
    for said in (
        "BTCUSDT 1h",
        "46.7 %",
        "Monte-Carlo error, 95 %: 30.2 % to 63.9 % (14 of 30 paths)",
        f"Last update {forecast.created_at:%Y-%m-%d %H:%M:%S} UTC",
        "UNCALIBRATED",
        forecast.id,
        "a" * 64,
        "has been scored yet",
        "Not investment advice",
    ):
        assert said in page.text
    assert "SIMULATED" not in page.text
    assert "script" not in page.tags
    local = [address for address in page.addresses if not address.startswith("data:")]
    assert {address.split("?")[0] for address in local} == NAMES - {"index.html"}


def test_the_same_forecast_is_the_same_site_and_other_files_of_the_folder_stay(
    run: Run, stores: Stores, tmp_path: Path
) -> None:
    forecast_stored(stores, ingested(stores))
    out = tmp_path / "site"
    out.mkdir()
    (out / "CNAME").write_text("forecasts.example")
    assert run("export", "--out", str(out)).returncode == 0
    first = {file.name: file.read_bytes() for file in out.iterdir()}
    assert run("export", "--out", str(out)).returncode == 0
    assert {file.name: file.read_bytes() for file in out.iterdir()} == first
    assert first.keys() == {*NAMES, "CNAME"}


@pytest.mark.parametrize(
    ("origin", "source", "expected"),
    [
        ("live", "local", ["UNCALIBRATED"]),
        ("simulated", "bundled", ["SIMULATED DATA", "BUNDLED MODEL", "UNCALIBRATED"]),
        ("recorded", "local", ["RECORDED DATA", "UNCALIBRATED"]),
    ],
)
def test_what_it_is_made_of_is_said_first(stores: Stores, origin: str, source: str, expected: list[str]) -> None:
    forecast_stored(stores, ingested(stores, origin=origin), source=source)  # type: ignore[arg-type]
    found = told(stores)
    assert titles(found) == expected
    page = words(index_page(found, "x.png"))
    assert all(one.title in page.text and one.text in page.text for one in found.said)


def test_a_forecast_that_should_have_been_followed_is_stale_and_says_why(stores: Stores) -> None:
    window = ingested(stores, problem="No venue answers.")
    forecast_stored(stores, window)
    due = window.last_open_time_ms + 2 * HOUR_MS
    assert "STALE" not in titles(told(stores, due + GRACE_MS))
    [stale, *_] = told(stores, due + GRACE_MS + 6_000).said
    assert stale.title == "STALE"
    assert "Ingest has not reported since" in stale.text  # whoever fetches has let its moment pass as well


def test_a_recording_of_the_past_is_not_stale(stores: Stores) -> None:
    forecast_stored(stores, ingested(stores, origin="recorded", last_open_time_ms=START_MS + 400 * HOUR_MS))
    found = told(stores)
    assert titles(found) == ["RECORDED DATA", "UNCALIBRATED"]
    assert found.due_ms is None


def test_a_track_record_is_told_with_its_verdict_and_recalibrated_bands_take_the_labels_place(
    redis: Redis, stores: Stores
) -> None:
    newest_forecast(redis, stores, scored(redis, 40))
    found = told(stores)
    assert found.forecast.recalibrated
    assert "UNCALIBRATED" not in titles(found)
    page = words(index_page(found, "x.png"))
    assert "40 of 120 are scored. Nothing is claimed before that." in page.text
    assert "Recalibrated: " in page.text
    assert "80 % band, recalibrated" in page.text


@pytest.mark.parametrize(
    ("verdict", "means"),
    [("no edge", "whoever uses the plain rule does as well"), ("worse", "Whoever uses the plain rule does better")],
)
def test_a_record_without_an_edge_says_that_a_plain_rule_is_as_good(
    redis: Redis, stores: Stores, verdict: str, means: str
) -> None:
    newest_forecast(redis, stores, scored(redis, 40))
    found = told(stores)
    assert found.record
    skill = found.record.skill.model_copy(update={"value": -0.01, "lower": -0.05, "upper": 0.03})
    better_known = found.record.model_copy(update={"verdict": verdict, "skill": skill, "forecasts": 400})
    page = words(index_page(replace(found, record=better_known), "x.png"))
    assert "skill -1.0% (95 %: -5.0% to +3.0%) against " in page.text
    assert means in page.text


def test_recalibration_that_is_switched_off_is_named(stores: Stores) -> None:
    forecast_stored(stores, ingested(stores))
    assert "calibration.enabled" in told(stores, calibrates=False).said[-1].text


def test_hostile_words_of_a_record_are_text(stores: Stores) -> None:
    forecast = forecast_stored(stores, ingested(stores))
    hostile = "<script>alert(1)</script>$\\frac{"
    made = forecast.provenance.model_copy(
        update={"venue": hostile, "model": forecast.provenance.model.model_copy(update={"name": hostile})}
    )
    files = site_files(replace(told(stores), forecast=forecast.model_copy(update={"provenance": made})))
    page = words(files["index.html"].decode())
    assert "script" not in page.tags
    assert hostile in page.text


def test_a_forecast_whose_snapshot_is_gone_is_drawn_without_its_history(stores: Stores, redis: Redis) -> None:
    forecast = forecast_stored(stores, ingested(stores))
    with_history = site_files(told(stores))
    redis.delete(f"kronos:snapshot:{forecast.provenance.snapshot_id}")
    without = site_files(told(stores))
    assert without["prediction_chart.png"].startswith(PNG)
    assert without["prediction_chart.png"] != with_history["prediction_chart.png"]


def test_where_there_is_nothing_to_show_one_sentence_says_so(run: Run, stores: Stores, tmp_path: Path) -> None:
    nobody = run("export", "--out", str(tmp_path / "site"), "--symbol", "ETHUSDT")
    assert (nobody.returncode, nobody.stdout) == (3, "")
    assert "ETHUSDT 1h is not ingested here" in nobody.stderr
    ingested(stores)
    assert "no forecast of BTCUSDT 1h yet" in run("export", "--out", str(tmp_path / "site")).stderr
    assert not (tmp_path / "site").exists()


def test_a_folder_that_cannot_be_written_is_named_and_what_was_there_stays(
    run: Run, stores: Stores, tmp_path: Path
) -> None:
    forecast_stored(stores, ingested(stores))
    (tmp_path / "file").write_text("mine")
    refused = run("export", "--out", str(tmp_path / "file" / "site"))
    assert refused.returncode == 1
    assert f"cannot be written to {tmp_path / 'file' / 'site'}" in refused.stderr
    assert len(refused.stderr.splitlines()) == 1
    assert (tmp_path / "file").read_text() == "mine"


def test_an_interrupted_update_leaves_the_page_that_was_there(tmp_path: Path) -> None:
    from services.publishing.folder import write_whole

    write_whole(tmp_path, {"a.css": b"old", "index.html": b"old"})
    (tmp_path / "b.png").mkdir()  # what cannot be replaced by a file
    with pytest.raises(PublishError, match="cannot be written"):
        write_whole(tmp_path, {"a.css": b"new", "b.png": b"new", "index.html": b"new"})
    assert (tmp_path / "index.html").read_bytes() == b"old"
    assert {file.name for file in tmp_path.iterdir()} == {"a.css", "b.png", "index.html"}  # no part stays behind
