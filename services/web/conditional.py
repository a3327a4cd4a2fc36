"""Answers that a browser may keep as long as nothing has changed."""

from __future__ import annotations

from flask import Response, request


def conditional(response: Response) -> Response:
    """Name the content by an ETag, so that whoever asks for it again hears 304 where nothing has changed."""
    response.headers["Cache-Control"] = "no-cache"
    response.add_etag()
    response.make_conditional(request)  # in place
    return response
