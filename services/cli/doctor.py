"""`kronos-live doctor`: what is wrong, and what to do about it."""

from __future__ import annotations

import sys
from collections import Counter

import click
from rich.console import Console
from rich.text import Text

from services.cli.common import (
    SHOWN_AT_MOST,
    as_json_option,
    errors_in_one_line,
    now_ms,
    print_json,
    show_all_option,
)
from services.cli.diagnosis import examine
from services.cli.diagnosis.finding import Finding, State
from shared.logs import quiet_logs
from shared.settings import load_settings

STYLES = {"ok": "green", "warning": "yellow", "wrong": "bold red"}


@click.command()
@show_all_option
@as_json_option
@errors_in_one_line
def doctor(show_all: bool, as_json: bool) -> None:
    """Say of Redis, the queue, the workers, each series, the watch for alerts, who may write, the clocks and the
    model whether it is well, and if not what to do.

    Ends with 1 where something is wrong, with 0 where all is well or there are warnings alone. It changes nothing, asks no
    venue, and asks the hub only whether it has a model that is not here.

    \b
    kronos-live doctor --json | jq '.[] | select(.state != "ok")'
    """
    quiet_logs()
    found, console = [], Console(soft_wrap=True)
    alike: Counter[tuple[str, State]] = Counter()  # such as klines that are well
    for finding in examine(load_settings(), now_ms()):
        found.append(finding)
        kind = finding.check.partition(" of ")[0], finding.state
        alike[kind] += 1
        if not as_json and (show_all or alike[kind] <= SHOWN_AT_MOST):
            console.print(_line(finding))
    if as_json:
        print_json(found, as_list=True)
    elif not show_all:
        for (what, state), count in alike.items():
            if count > SHOWN_AT_MOST:
                console.print(_of_state(state, f"{what} of {count - SHOWN_AT_MOST} more: `kronos-live doctor --all`."))
    if any(finding.state == "wrong" for finding in found):
        sys.exit(1)


def _line(finding: Finding) -> Text:
    return _of_state(finding.state, f"{finding.check}: {finding.what}" + (f" {finding.todo}" if finding.todo else ""))


def _of_state(state: State, said: str) -> Text:
    return Text.assemble((f"{state:<7}", STYLES[state]), f" {said}")
