"""The header Idempotency-Key: a request that is sent twice, since its answer was lost, is carried out once.

Knows HTTP; the answers are kept in shared/kept_answers.py.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable

from flask import Request, Response

from services.web.problems import Refused
from shared.kept_answers import Answer, KeptAnswers

LONGEST_KEY = 255
KEPT_HEADERS = ("Location",)


def answered_once(request: Request, raw: bytes, answers: KeptAnswers, answer: Callable[[], Response]) -> Response:
    """What `answer` gives, or, where the request came before under the same key, what it gave then.

    `raw` is the request's body. What goes wrong is not kept: the same request may then be sent again.
    """
    key = request.headers.get("Idempotency-Key")
    if key is None:
        return answer()
    if not (1 <= len(key) <= LONGEST_KEY and key.isascii() and key.isprintable()):
        raise Refused(
            400,
            f"Idempotency-Key has {len(key)} characters, but allowed are 1 to {LONGEST_KEY} that can be printed in ASCII, "
            f"such as those of a UUID.",
            field="Idempotency-Key",
        )
    fingerprint = _fingerprint(request, raw)
    kept = answers.find_or_begin(key, fingerprint)
    if kept is not None:
        return Response(kept.body, kept.status, kept.headers, mimetype="application/json")
    try:
        response = answer()
    except Exception:
        answers.forget(key)
        raise
    headers = {name: response.headers[name] for name in KEPT_HEADERS if name in response.headers}
    answers.keep(
        key, fingerprint, Answer(status=response.status_code, body=response.get_data(as_text=True), headers=headers)
    )
    return response


def _fingerprint(request: Request, raw: bytes) -> str:
    """The same for the same request alone: its address with all parameters, the kind of its body, and that."""
    digest = hashlib.sha256(f"{request.method} {request.full_path} {request.mimetype}\n".encode())
    digest.update(raw)
    return digest.hexdigest()
