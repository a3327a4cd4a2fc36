"""The house describes itself truly: each knob is documented where people look, and reaches the containers."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from shared.settings import DEFAULT_CONFIG, environment_name, knobs
from tests.conftest import PROJECT
from tests.house.knob_table import READMES, knob_table, written_table
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
    "KRONOS_WEB__PUBLISHED",
    "KRONOS_MODEL__LOCAL_DIR",
    "KRONOS_PUBLISH__FOLDER",
    "KRONOS_PUBLISH__GIT__ALLOW_OWN_REPOSITORY",  # no container holds a checkout
    "KRONOS_ALERTS__CHANNELS",  # secrets, which one service alone is given
    "KRONOS_ALERTS__CHANNEL_FILE",
    "KRONOS_DATA__RECORDED_FILE",  # a path of the person's machine, which no container sees
}


def test_the_default_configuration_holds_every_knob_and_no_other() -> None:
    assert list(_written(yaml.safe_load(DEFAULT_CONFIG.read_text()))) == KNOBS


def _written(sections: dict[str, Any], within: str = "") -> Iterator[tuple[str, str]]:
    for name, value in sections.items():
        if isinstance(value, dict):
            yield from _written(value, f"{within}.{name}".lstrip("."))
        else:
            yield within, name


@pytest.mark.parametrize(("section", "name"), KNOBS)
def test_every_knob_is_explained_beside_its_default_with_its_environment_name(section: str, name: str) -> None:
    [line] = [line for line in DEFAULT_CONFIG.read_text().splitlines() if f"[{environment_name(section, name)}" in line]
    assert re.match(rf"{'  ' * len(section.split('.'))}{name}: .+#.*\[", line)


@pytest.mark.parametrize("readme", READMES, ids=lambda readme: readme.name)
def test_the_readmes_table_is_what_the_configuration_says(readme: Path) -> None:
    assert written_table(readme) == knob_table(), "python -m tests.house.knob_table writes it anew"
    assert written_table(readme).count("\n") == len(KNOBS) + 1


def test_the_table_of_metrics_is_what_the_metrics_say() -> None:
    assert written_metric_table() == metric_table(), "python -m tests.house.metric_table writes it anew"


def test_compose_passes_every_knob_into_the_containers() -> None:
    compose = yaml.safe_load((PROJECT / "docker-compose.yml").read_text())
    expected = {environment_name(section, name) for section, name in KNOBS} - SET_BY_COMPOSE_OR_IMAGE
    of_one = {
        "publish": {name for name in expected if name.startswith("KRONOS_PUBLISH__")},  # the address may hold a token
        "alerts": {"KRONOS_ALERTS__ENABLED"},
    }
    alone = set().union(*of_one.values())
    for service in ("ingest", "inference", "web", *of_one):
        passed = set(compose["services"][service]["environment"])
        assert expected - alone | of_one.get(service, set()) <= passed
        assert not of_one["publish"] & passed or service == "publish"


def test_torch_is_pinned_in_one_place() -> None:
    pins = [
        path.name
        for path in [PROJECT / name for name in ("pyproject.toml", "constraints.txt", "Makefile", "docker-compose.yml")]
        if re.search(r"torch==\d", path.read_text())
    ]
    assert pins == ["pyproject.toml"]
