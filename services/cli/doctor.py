"""`kronos-live doctor`: what is wrong, and what to do about it."""

from __future__ import annotations

import sys

import click
from rich.console import Console
from rich.text import Text

from services.cli.common import as_json_option, errors_in_one_line, now_ms, print_json
from services.cli.diagnosis import examine
from services.cli.diagnosis.finding import Finding
from shared.logs import quiet_logs
from shared.settings import load_settings

STYLES = {"ok": "green", "warning": "yellow", "wrong": "bold red"}


@click.command()
@as_json_option
@errors_in_one_line
def doctor(as_json: bool) -> None:
    """Say of Redis, the queue, the workers, each series, the watch for alerts, who may write, the clocks and the
    model whether it is well, and if not what to do.

    Ends with 1 where something is wrong, with 0 where all is well or there are warnings alone. It changes nothing, asks no
    venue, and asks the hub only whether it has a model that is not here.

    \b
    kronos-live doctor --json | jq '.[] | select(.state != "ok")'
    """
    quiet_logs()
    found, console = [], Console(soft_wrap=True)
    for finding in examine(load_settings(), now_ms()):
        found.append(finding)
        if not as_json:
            console.print(_line(finding))
    if as_json:
        print_json(found, as_list=True)
    if any(finding.state == "wrong" for finding in found):
        sys.exit(1)


def _line(finding: Finding) -> Text:
    said = f" {finding.check}: {finding.what}" + (f" {finding.todo}" if finding.todo else "")
    return Text.assemble((f"{finding.state:<7}", STYLES[finding.state]), said)
