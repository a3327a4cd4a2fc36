"""What settings are made of: sections, lists as the environment writes them, and what a field takes, in words. Knows no knob."""

from __future__ import annotations

from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from pydantic.fields import FieldInfo

from shared.klines import Interval

SeriesName = Annotated[str, Field(pattern=rf"^[A-Z0-9]{{2,20}}:({'|'.join(Interval)})$")]


def _split(value: object) -> object:
    """In the environment a list is written with commas: binance,okx."""
    return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value


CommaSeparated = BeforeValidator(_split)


class Section(BaseModel):
    """A part of the settings: closed to unknown keys, and never changed after the start."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


def describe_allowed(field: FieldInfo) -> str:
    """What a field takes, in words: 'a whole number from 1 to 448', 'one of trim, slide'."""
    if field.description:
        return field.description
    if choices := _choices(field.annotation):
        several = get_origin(field.annotation) is tuple
        return f"{'one or more' if several else 'one'} of {', '.join(choices)}"
    kind = {int: "a whole number", float: "a number", bool: "true or false", Path: "a path"}.get(_plain(field), "text")
    bounds = {type(bound).__name__: bound for bound in field.metadata}
    low = f"from {bounds['Ge'].ge}" if "Ge" in bounds else f"above {bounds['Gt'].gt}," if "Gt" in bounds else ""
    high = f"to {bounds['Le'].le}" if "Le" in bounds else ""
    return " ".join(part for part in (kind, low, high) if part)


def _plain(field: FieldInfo) -> Any:
    """The type of a field with an optional None taken off."""
    if get_origin(field.annotation) in (Union, UnionType):
        return next(kind for kind in get_args(field.annotation) if kind is not type(None))
    return field.annotation


def _choices(annotation: Any) -> list[str]:
    if annotation is Interval:
        return [interval.value for interval in Interval]
    if get_origin(annotation) is Literal:
        return [str(choice) for choice in get_args(annotation)]
    return [choice for part in get_args(annotation) for choice in _choices(part)]
