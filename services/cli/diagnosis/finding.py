"""What the doctor says of one thing that it has looked at."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from shared.contract import Contract

State = Literal["ok", "warning", "wrong"]


class Finding(Contract):
    check: str = Field(description="what was looked at")
    state: State = Field(description="wrong: forecasts are or soon will be missing; warning: see whether that is meant")
    what: str = Field(description="one sentence: how it stands")
    todo: str | None = Field(default=None, description="one sentence: what to do; none where all is well")


def ok(check: str, what: str) -> Finding:
    return Finding(check=check, state="ok", what=what)


def warning(check: str, what: str, todo: str) -> Finding:
    return Finding(check=check, state="warning", what=what, todo=todo)


def wrong(check: str, what: str, todo: str) -> Finding:
    return Finding(check=check, state="wrong", what=what, todo=todo)
