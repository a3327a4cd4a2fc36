"""What the tests of faults share: the knobs of a worker with a tiny model on the tests' Redis, a running stack, and the word of
each on how long recovery took.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from tests.faults.recovery import RECOVERY_S, Recovery
from tests.faults.stack import Stack, running_stack
from tests.tiny_models import write_tiny_models


@pytest.fixture
def recovery(request: pytest.FixtureRequest) -> Recovery:
    return Recovery(request.node)


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
def long_running_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with running_stack(tmp_path_factory.mktemp("stack")) as running:
        yield running


@pytest.fixture
def stack(long_running_stack: Stack) -> Iterator[Stack]:
    """The one stack of all tests, in which nothing is broken, a little after midnight by the venue's time."""
    long_running_stack.venue_time.begin_day()
    yield long_running_stack
    long_running_stack.mend()


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, object, object]:
    """A test of a fault that does not say how long recovery took has failed."""
    outcome = yield
    assert any(name == RECOVERY_S for name, _ in pyfuncitem.user_properties), "it did not say how long recovery took"
    return outcome


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """How long each recovery took."""
    for report in terminalreporter.getreports("passed"):
        for name, value in report.user_properties:
            if name == RECOVERY_S:
                terminalreporter.write_line(f"recovered after {value:5.1f} s: {report.nodeid.partition('::')[2]}")
