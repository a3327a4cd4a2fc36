"""Errors as people and programs meet them: RFC 9457 problem+json, or a plain page for a person's browser.

Knows which of our errors is which HTTP status, and nothing of forecasts. Nothing of a trace ever leaves the server.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from flask import Flask, Response, make_response, render_template, request
from pydantic import BaseModel, Field
from werkzeug.exceptions import HTTPException, MethodNotAllowed, NotFound

from shared.errors import (
    AlreadyEndedError,
    KronosLiveError,
    NotFoundError,
    QueueFullError,
    RequestError,
    StillAnsweringError,
    StoreUnavailableError,
)
from shared.logs import get_logger

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER_S = 5  # for what passes by itself: a full queue, a Redis that restarts
STATUS_OF: dict[type[KronosLiveError], int] = {
    RequestError: 422,
    NotFoundError: 404,
    AlreadyEndedError: 409,
    StillAnsweringError: 409,
    QueueFullError: 429,
    StoreUnavailableError: 503,
}
PASSES_BY_ITSELF = {StillAnsweringError, QueueFullError, StoreUnavailableError}
FOR_PROGRAMS = ("/api/", "/openapi/", "/livez", "/readyz", "/metrics")

log = get_logger(__name__)


class FieldProblem(BaseModel):
    """What is wrong with one part of a request."""

    field: str = Field(description="the field, header or parameter that is wrong")
    detail: str


class Problem(BaseModel):
    """RFC 9457 problem details."""

    type: str = "about:blank"
    title: str = Field(description="the status in words")
    status: int
    detail: str = Field(description="one sentence: what was wrong, with which value, what is allowed, what to do")
    errors: list[FieldProblem] = []


class Refused(Exception):  # noqa: N818 - it is an answer, not a defect
    """Raised by a view to answer with a problem of this status."""

    def __init__(
        self, status: int, detail: str, *, field: str | None = None, headers: dict[str, str] | None = None
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.field = field
        self.headers = headers or {}


def problem_response(
    status: int,
    detail: str,
    *,
    errors: list[FieldProblem] | None = None,
    headers: dict[str, str] | None = None,
    **extensions: Any,
) -> Response:
    """A problem+json answer; `extensions` are further members, such as the checks of /readyz."""
    problem = Problem(title=HTTPStatus(status).phrase, status=status, detail=detail, errors=errors or [])
    response = make_response({**problem.model_dump(), **extensions}, status)
    response.mimetype = MEDIA_TYPE
    response.headers.extend({"Cache-Control": "no-store", **(headers or {})})
    return response


def register_problems(app: Flask) -> None:
    """From here on every error of `app` is answered as a problem."""
    app.register_error_handler(Refused, _refused)
    app.register_error_handler(KronosLiveError, _our_error)
    app.register_error_handler(HTTPException, _http_error)
    app.register_error_handler(Exception, _defect)


def _refused(error: Refused) -> Response:
    return _answer(error.status, error.detail, field=error.field, headers=error.headers)


def _our_error(error: KronosLiveError) -> Response:
    status, headers = _status_of(error)
    if status >= 500:
        log.error("request failed", path=request.path, error=error.message)
    return _answer(status, error.message, field=error.field, headers=headers)


def _status_of(error: KronosLiveError) -> tuple[int, dict[str, str]]:
    for kind, status in STATUS_OF.items():
        if isinstance(error, kind):
            return status, {"Retry-After": str(RETRY_AFTER_S)} if kind in PASSES_BY_ITSELF else {}
    return 500, {}


def _http_error(error: HTTPException) -> Response:
    status = error.code or 500
    detail = error.description or HTTPStatus(status).phrase
    match error:
        case NotFound():
            detail = f"There is nothing at {request.path}."
        case MethodNotAllowed():
            detail = f"{request.method} is not possible at {request.path}; possible is {', '.join(error.valid_methods or [])}."
    kept = {name: value for name, value in error.get_headers() if name in {"Allow", "Retry-After", "WWW-Authenticate"}}
    return _answer(status, detail, headers=kept)


def _defect(error: Exception) -> Response:
    log.error("a request met a defect", path=request.path, method=request.method, exc_info=error)
    return _answer(500, "The server met an error of its own, which is in its log; the request was not carried out.")


def _answer(status: int, detail: str, *, field: str | None = None, headers: dict[str, str] | None = None) -> Response:
    if _wants_a_page():
        page = render_template("error.html", status=status, detail=detail)
        response = make_response(page, status)
        response.headers.extend({"Cache-Control": "no-store", **(headers or {})})
        return response
    errors = [FieldProblem(field=field, detail=detail)] if field else []
    return problem_response(status, detail, errors=errors, headers=headers)


def _wants_a_page() -> bool:
    if request.path.startswith(FOR_PROGRAMS):
        return False
    offered = request.accept_mimetypes.best_match([MEDIA_TYPE, "application/json", "text/html"])
    return offered == "text/html"
