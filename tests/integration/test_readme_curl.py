"""README's curl lines run as they stand there, against a real service and a real worker.

Only what a reader would replace is replaced: the address, and `adhoc-...` by the id of a forecast. curl's own configuration
file (CURL_HOME) has it tell the status of each answer and give up on the streams that never end.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from redis import Redis

from services.web.situation import Stores
from tests.builders import kline_window
from tests.conftest import PROJECT, skip_or_fail
from tests.integration.test_own_klines import as_csv, candles
from tests.processes import eventually, service
from tests.tiny_models import write_tiny_models
from tests.web_server import forecast_stored, ingested, stores_on, web_server

EXAMPLES = re.search(r"## API by example\n\n```sh\n(.*?)```", (PROJECT / "README.md").read_text(), re.DOTALL)
LINES = re.findall(r"^curl .*?(?<!\\)$", EXAMPLES[1] if EXAMPLES else "", re.DOTALL | re.MULTILINE)
GAVE_UP = 28  # curl's word for an answer that took longer than it was to wait
STREAMS_FOR_S = 3


@dataclass(frozen=True)
class Answer:
    """What curl printed: the status and all before it."""

    status: int
    said: str
    code: int


Run = Callable[[str, str], Answer]


@pytest.fixture
def stores(redis: Redis) -> Stores:
    return stores_on(redis)


@pytest.fixture
def run(redis_url: str, stores: Stores, tmp_path: Path) -> Iterator[Run]:
    """Runs a line of README on a house where two series are kept up and a worker is at hand."""
    if shutil.which("curl") is None:
        skip_or_fail("curl", "no curl is on the PATH (Debian: apt-get install curl)")
    (tmp_path / ".curlrc").write_text(f'write-out = "\\n%{{http_code}}"\nmax-time = {STREAMS_FOR_S}\nnoproxy = "*"\n')
    (tmp_path / "my.csv").write_text(as_csv(candles(kline_window(100))))
    for seed, symbol in enumerate(("BTCUSDT", "ETHUSDT")):
        forecast_stored(stores, ingested(stores, symbol=symbol, seed=seed))
    worker = {
        "KRONOS_REDIS__URL": redis_url,
        "KRONOS_MODEL__LOCAL_DIR": str(write_tiny_models(tmp_path / "models")),
        "KRONOS_MODEL__ALLOW_HUB": "false",
        "KRONOS_WORKER__THREADS": "1",
    }
    with web_server(redis_url, tmp_path) as (address, _), service("worker", worker, tmp_path) as running:
        running.wait_for_log("worker_ready")

        def typed(line: str, forecast_id: str) -> Answer:
            command = line.replace("http://127.0.0.1:8000", address).replace("adhoc-...", forecast_id)
            done = subprocess.run(
                ["bash", "-c", command],
                cwd=tmp_path,
                env={**os.environ, "CURL_HOME": str(tmp_path)},
                capture_output=True,
                text=True,
                errors="replace",
                timeout=60,
                check=False,
            )
            said, _, status = done.stdout.rpartition("\n")
            return Answer(int(status), said, done.returncode)

        yield typed


def test_readme_has_lines_of_every_kind() -> None:
    assert len(LINES) >= 15
    kinds = ("POST", "-d ", "--data-binary", "DELETE", "-sN", "paths.csv", "probability", "latest", "readyz")
    assert [kind for kind in kinds if not any(kind in line for line in LINES)] == []


def test_the_curl_lines_in_readme_run_as_they_stand_there(run: Run, stores: Stores) -> None:
    asked = run(LINES[0], "")
    head, _, body = asked.said.partition("\n\n")
    made = json.loads(body)["id"]
    for promised in re.findall(r"^# (HTTP/1.1 .*|Location: .*)\.\.\.$|^# (HTTP/1.1 .*)$", EXAMPLES[1], re.MULTILINE):  # type: ignore[index]
        assert "".join(promised) in head
    eventually(lambda: stores.forecasts.exists(made), 60)
    assert json.loads(run(LINES[0], "").said.partition("\n\n")[2])["reused"] is True
    for line in LINES[1:]:
        cancels = "-X DELETE" in line
        answer = run(line, waiting(run) if cancels else made)
        assert 200 <= answer.status < 300, (line, answer)
        assert answer.code in ((0, GAVE_UP) if "-sN" in line else (0,)), (line, answer)
        check(line, answer.said, made)


def waiting(run: Run) -> str:
    """The id of a forecast that is not made soon: asked for by README's first line, with another seed and far more paths."""
    line = LINES[0].replace('"seed": 7', '"seed": 8').replace('"num_samples": 100', '"num_samples": 10000')
    return str(json.loads(run(line, "").said.partition("\n\n")[2])["id"])


def check(line: str, said: str, forecast_id: str) -> None:
    """That the answer is of the kind that the line is there for."""
    if "-sN" in line:
        assert "\nevent: " in said
    elif "paths.csv" in line:
        assert len(said.splitlines()) == 1 + 100 * 24
    elif "quantiles.csv" in line:
        assert "column,quantile,kind,step,open_time,value" in said.splitlines()[0]
    elif "imported.csv" in line:
        assert said.startswith("forecaster,symbol,interval,horizon,last_open_time_ms,")
    elif "/metrics" in line:
        assert "\nkronos_redis_up 1.0\n" in said
    else:
        told = json.loads(said)
        if "DELETE" in line:
            assert told["state"] == "cancelled"
        elif '"symbols"' in line:
            assert [one["symbol"] for one in told["forecasts"]] == ["BTCUSDT", "ETHUSDT"]
        elif "probability" in line:
            share = told["probability"]
            assert share["lower"] <= share["value"] <= share["upper"]
        elif re.search(r"/adhoc-\.\.\.\s", line):
            assert told["forecast"]["id"] == forecast_id
