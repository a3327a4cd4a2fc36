"""/docs: the API's own description as a page for people, made on the server from the OpenAPI document.

No script and nothing from elsewhere, so it needs no exception from the page's security policy. Knows OpenAPI as far as
our document uses it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from flask import Blueprint, Response, make_response, render_template

from services.web.conditional import conditional

Document = Mapping[str, Any]


@dataclass(frozen=True)
class Field:
    """A parameter or a member of a schema: its name, type in words, and meaning."""

    name: str
    kind: str
    required: bool
    description: str


@dataclass(frozen=True)
class Answer:
    status: str
    media_type: str
    schema: str | None  # the name of its schema, where it has one
    description: str


@dataclass(frozen=True)
class Body:
    media_type: str
    schema: str | None  # the name of its schema, where it has one
    description: str


@dataclass(frozen=True)
class Operation:
    method: str
    path: str
    summary: str
    description: str
    parameters: list[Field]
    bodies: list[Body]  # any one of them may be sent
    answers: list[Answer]

    @property
    def anchor(self) -> str:
        return f"{self.method}-{self.path}".replace("/", "-").replace("{", "").replace("}", "")


@dataclass(frozen=True)
class Schema:
    name: str
    description: str
    fields: list[Field]


def documentation(document: Callable[[], Document]) -> Blueprint:
    """The page; `document` gives the OpenAPI document, which is complete only once all rooms are registered."""
    pages = Blueprint("documentation", __name__)

    @pages.get("/docs")
    def docs() -> Response:
        described = document()
        return conditional(
            make_response(
                render_template(
                    "docs.html", info=described["info"], operations=operations(described), schemas=schemas(described)
                )
            )
        )

    return pages


def operations(document: Document) -> list[Operation]:
    """In the order of their addresses."""
    return [
        Operation(
            method=method.upper(),
            path=path,
            summary=operation.get("summary", ""),
            description=operation.get("description", ""),
            parameters=[
                Field(
                    one["name"],
                    f"{in_words(one['schema'])}, in the {one['in']}",
                    one.get("required", False),
                    one.get("description", ""),
                )
                for one in operation.get("parameters", [])
            ],
            bodies=[
                Body(media_type, _name(content.get("schema", {})), content.get("schema", {}).get("description", ""))
                for media_type, content in operation.get("requestBody", {}).get("content", {}).items()
            ],
            answers=[
                Answer(status, media_type, _name(content.get("schema", {})), answer.get("description", ""))
                for status, answer in sorted(operation["responses"].items())
                for media_type, content in answer.get("content", {"no body": {}}).items()
            ],
        )
        for path, methods in sorted(document["paths"].items())
        for method, operation in methods.items()
    ]


def schemas(document: Document) -> list[Schema]:
    """Those that are objects, by name."""
    return [
        Schema(
            name,
            schema.get("description", ""),
            [
                Field(member, in_words(of), member in schema.get("required", []), of.get("description", ""))
                for member, of in schema["properties"].items()
            ],
        )
        for name, schema in sorted(document["components"]["schemas"].items())
        if "properties" in schema
    ]


def in_words(schema: Mapping[str, Any]) -> str:
    """A schema's type as people say it: 'list of Band', 'integer, 1 to 200', 'number or none'."""
    if name := _name(schema):
        return name
    if choices := schema.get("anyOf") or schema.get("oneOf") or schema.get("allOf"):
        return " or ".join(in_words(one) for one in choices)
    if "enum" in schema:
        return "one of " + ", ".join(str(one) for one in schema["enum"])
    members = schema.get("additionalProperties")
    match schema.get("type", "anything"):
        case "null":
            words = "none"
        case "array":
            words = f"list of {in_words(schema.get('items', {}))}"
        case "object" if isinstance(members, Mapping):
            words = f"object of {in_words(members)} by name"
        case kind:
            words = f"{kind}{_range(schema)}"
    return words


def _range(schema: Mapping[str, Any]) -> str:
    bounds = [
        f"{word} {schema[key]}"
        for key, word in (
            ("minimum", "from"),
            ("exclusiveMinimum", "above"),
            ("maximum", "to"),
            ("exclusiveMaximum", "below"),
        )
        if key in schema
    ]
    return f", {' '.join(bounds)}" if bounds else ""


def _name(schema: Mapping[str, Any]) -> str | None:
    reference = schema.get("$ref")
    return reference.rsplit("/", 1)[-1] if isinstance(reference, str) else None
