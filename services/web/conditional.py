"""Answers that a browser may keep as long as nothing has changed."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from importlib.metadata import version

from flask import Response, request


def conditional(response: Response) -> Response:
    """Name the content by an ETag, so that whoever asks for it again hears 304 where nothing has changed."""
    response.headers["Cache-Control"] = "no-cache"
    response.add_etag()
    response.make_conditional(request)  # in place
    return response


def made_if_changed(made_of: object, make: Callable[[], Response]) -> Response:
    """The same where the content follows from something small, `made_of`: who has it already hears 304 before it is made."""
    named = f"{version('kronos-live')} {request.full_path} {made_of}"
    etag = hashlib.sha256(named.encode()).hexdigest()[:32]
    response = Response(status=304) if request.if_none_match.contains_weak(etag) else make()
    response.headers["Cache-Control"] = "no-cache"
    response.set_etag(etag)
    return response
