"""What the tests of faults share: the knobs of a worker with a tiny model on the tests' Redis."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.stack import Stack, running_stack
from tests.tiny_models import write_tiny_models


@pytest.fixture
def environment(redis_url: str, tmp_path: Path) -> dict[str, str]:
    return {
        "KRONOS_REDIS__URL": redis_url,
        "KRONOS_MODEL__LOCAL_DIR": str(write_tiny_models(tmp_path)),
        "KRONOS_MODEL__ALLOW_HUB": "false",
        "KRONOS_WORKER__THREADS": "1",
        "KRONOS_WORKER__FORECASTS_AT_ONCE": "3",
    }


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with running_stack(tmp_path_factory.mktemp("stack")) as running:
        yield running


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """How long each recovery took, as the tests have told by record_property."""
    for report in terminalreporter.getreports("passed"):
        for name, value in report.user_properties:
            if name == "recovery_s":
                terminalreporter.write_line(f"recovered after {value:5.1f} s: {report.nodeid.partition('::')[2]}")
