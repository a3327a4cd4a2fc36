"""Every service reaches a Redis over TLS, with a CA, a client's certificate and a password; what is wrong is said once."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from pydantic import SecretStr

from shared.errors import SettingsError, StoreUnavailableError
from shared.forecast_queue import ForecastQueue
from shared.forecast_store import ForecastStore
from shared.klines import Interval
from shared.redis_connection import connect
from shared.settings import RedisSettings
from tests.builders import settings
from tests.conftest import PROJECT, free_port
from tests.processes import eventually, service
from tests.tiny_models import write_tiny_models
from tests.tls_redis import PASSWORD, Certificates, make_certificates, tls_redis
from tests.web_server import listening_address


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module", params=["proxy", "redis-server"])
def port(request: pytest.FixtureRequest, made: Certificates, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    with tls_redis(request.param, made, tmp_path_factory.mktemp("redis")) as at:
        yield at


def knobs(port: int, made: Certificates, **other: object) -> RedisSettings:
    """The right ones, unless others are given."""
    right = {
        **settings().redis.model_dump(),
        "url": SecretStr(f"rediss://:{PASSWORD}@127.0.0.1:{port}/0"),
        "ca_file": str(made.ca),
        "cert_file": str(made.client),
        "key_file": str(made.client_key),
    }
    return RedisSettings.model_validate({**right, **other})


def why(chosen: RedisSettings) -> str:
    """What is said of a queue that cannot be reached."""
    with pytest.raises(StoreUnavailableError) as caught:
        ForecastQueue(connect(chosen), settings().queue).waiting()
    return str(caught.value)


def test_a_scheduled_forecast_goes_through_ingest_worker_and_web(port: int, made: Certificates, tmp_path: Path) -> None:
    chosen = knobs(port, made)
    nowhere = f"http://127.0.0.1:{free_port()}"
    environment = {
        "KRONOS_REDIS__URL": chosen.url.get_secret_value(),
        "KRONOS_REDIS__CA_FILE": chosen.ca_file,
        "KRONOS_REDIS__CERT_FILE": chosen.cert_file,
        "KRONOS_REDIS__KEY_FILE": chosen.key_file,
        "KRONOS_VENUES__BINANCE_URLS": nowhere,  # so that klines are simulated
        "KRONOS_VENUES__OKX_URL": nowhere,
        "KRONOS_VENUES__BYBIT_URL": nowhere,
        "KRONOS_MODEL__LOCAL_DIR": str(write_tiny_models(tmp_path / "models")),
        "KRONOS_MODEL__ALLOW_HUB": "false",
        "KRONOS_SAMPLING__NUM_SAMPLES": "4",
        "KRONOS_WORKER__THREADS": "1",
        "KRONOS_WEB__PORT": "0",
        "KRONOS_METRICS__ENABLED": "false",
    }
    forecasts = ForecastStore(connect(chosen), keep=10)

    def made_one() -> bool:
        return forecasts.latest_scheduled("BTCUSDT", Interval.H1, "simulated") is not None

    with (
        service("web", environment, tmp_path) as web,
        service("worker", environment, tmp_path) as worker,
        service("ingest", environment, tmp_path) as ingest,
    ):
        eventually(made_one, 90, lambda: worker.log() + ingest.log())
        web.wait_for_log("listening")
        shown = httpx.get(f"{listening_address(web)}/api/v1/forecasts/latest", timeout=30, trust_env=False)
        assert shown.json()["forecast"]["paths"]["shape"] == [4, 24, 6]
        assert [one.end() for one in (ingest, worker, web)] == [0, 0, 0]


def test_another_ca_is_one_clear_sentence_in_the_command_line(port: int, made: Certificates) -> None:
    said = subprocess.run(
        [sys.executable, "-m", "services.cli", "list"],
        cwd=PROJECT,
        env={
            "KRONOS_REDIS__URL": f"rediss://:{PASSWORD}@127.0.0.1:{port}/0",
            "KRONOS_REDIS__CA_FILE": str(made.other_ca),
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert said.returncode == 5
    assert said.stderr.count("\n") == 1
    assert said.stderr.startswith("kronos-live: Redis' certificate is not trusted (")
    assert "redis.ca_file (KRONOS_REDIS__CA_FILE)" in said.stderr
    assert PASSWORD not in said.stderr


def test_a_host_that_the_certificate_does_not_name_is_not_trusted(port: int, made: Certificates) -> None:
    elsewhere = SecretStr(f"rediss://:{PASSWORD}@localhost:{port}/0")
    assert "is not trusted (Hostname mismatch" in why(knobs(port, made, url=elsewhere))


def test_a_client_without_a_certificate_is_told_so(port: int, made: Certificates) -> None:
    assert "redis.cert_file and redis.key_file" in why(knobs(port, made, cert_file="", key_file=""))


def test_a_wrong_password_stays_a_matter_of_redis(port: int, made: Certificates) -> None:
    said = why(knobs(port, made, url=SecretStr(f"rediss://:another@127.0.0.1:{port}/0")))
    assert "password" in said
    assert "certificate" not in said


def test_a_redis_without_tls_is_said_to_be_one(redis_port: int, made: Certificates) -> None:
    assert "does not speak TLS" in why(knobs(redis_port, made))


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"ca_file": "no-such.pem"}, r"redis\.ca_file \(KRONOS_REDIS__CA_FILE\) is no-such\.pem.*No such file"),
        ({"ca_file": str(PROJECT / "README.md")}, r"redis\.ca_file .* allowed is a PEM file with certificates of CAs"),
        ({"cert_file": "no-such.pem"}, r"redis\.cert_file with redis\.key_file .* is no-such\.pem with "),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_before_anything_connects(
    made: Certificates, other: dict[str, str], said: str
) -> None:
    with pytest.raises(SettingsError, match=said):
        connect(knobs(6379, made, **other))


def test_a_certificate_of_another_key_is_refused(made: Certificates) -> None:
    with pytest.raises(SettingsError, match="a certificate and its key"):
        connect(knobs(6379, made, key_file=str(made.server_key)))
