"""The house describes itself truly: each knob is documented where people look, and reaches the containers."""

from __future__ import annotations

import re

import pytest
import yaml

from shared.settings import DEFAULT_CONFIG, environment_name, knobs
from tests.conftest import PROJECT
from tests.house.knob_table import knob_table, written_table
from tests.house.metric_table import metric_table, written_metric_table

KNOBS = [(section, name) for section, name, _ in knobs()]
SET_BY_COMPOSE_OR_IMAGE = {
    "KRONOS_REDIS__URL",
    "KRONOS_REDIS__CA_FILE",  # compose brings a Redis of its own, which nobody outside can reach
    "KRONOS_REDIS__CERT_FILE",
    "KRONOS_REDIS__KEY_FILE",
    "KRONOS_WEB__HOST",
    "KRONOS_WEB__PORT",
    "KRONOS_WEB__PUBLIC",
    "KRONOS_MODEL__LOCAL_DIR",
    "KRONOS_DATA__RECORDED_FILE",  # a path of the person's machine, which no container sees
}


def test_the_default_configuration_holds_every_knob_and_no_other() -> None:
    written = yaml.safe_load(DEFAULT_CONFIG.read_text())
    assert [(section, name) for section, names in written.items() for name in names] == KNOBS


@pytest.mark.parametrize(("section", "name"), KNOBS)
def test_every_knob_is_explained_beside_its_default_with_its_environment_name(section: str, name: str) -> None:
    [line] = [line for line in DEFAULT_CONFIG.read_text().splitlines() if f"[{environment_name(section, name)}" in line]
    assert re.match(rf"  {name}: .+#.*\[", line)


def test_the_readmes_table_is_what_the_configuration_says() -> None:
    assert written_table() == knob_table(), "python -m tests.house.knob_table writes it anew"
    assert written_table().count("\n") == len(KNOBS) + 1


def test_the_table_of_metrics_is_what_the_metrics_say() -> None:
    assert written_metric_table() == metric_table(), "python -m tests.house.metric_table writes it anew"


def test_compose_passes_every_knob_into_the_containers() -> None:
    compose = yaml.safe_load((PROJECT / "docker-compose.yml").read_text())
    expected = {environment_name(section, name) for section, name in KNOBS} - SET_BY_COMPOSE_OR_IMAGE
    expected.add("KRONOS_PROFILE")
    for service in ("ingest", "inference", "web"):
        assert expected <= set(compose["services"][service]["environment"])


def test_torch_is_pinned_in_one_place() -> None:
    pins = [
        path.name
        for path in [PROJECT / name for name in ("pyproject.toml", "constraints.txt", "Makefile", "docker-compose.yml")]
        if re.search(r"torch==\d", path.read_text())
    ]
    assert pins == ["pyproject.toml"]
