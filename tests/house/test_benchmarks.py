"""Benchmarks run seldom, so that they still begin is seen here: they import what there is, and say what they are for."""

from __future__ import annotations

from importlib import import_module

import click
import pytest
from click.testing import CliRunner

from tests.conftest import PROJECT

COMMANDS = [
    file.stem for file in sorted((PROJECT / "benchmarks").glob("*.py")) if '__name__ == "__main__"' in file.read_text()
]


@pytest.mark.parametrize("name", COMMANDS)
def test_a_benchmark_says_what_it_is_for(name: str) -> None:
    command = import_module(f"benchmarks.{name}").main
    assert isinstance(command, click.Command)
    shown = CliRunner().invoke(command, ["--help"])
    assert shown.exit_code == 0, shown.output
    assert len(shown.output.split("Options:")[0].split()) > 12
