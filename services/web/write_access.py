"""Who may enqueue work: the rules that stand before every request that writes.

A token where one is configured, as it must be where the service is public (`shared/publishing.py`); none on loopback, where
only this machine can ask, on a network that the configuration trusts, and in a container that is published on loopback. Pages
of other sites may never write through a person's browser.
"""

from __future__ import annotations

import ipaddress
import secrets
from urllib.parse import urlsplit

from flask import Request

from services.web.problems import Refused
from shared.publishing import is_loopback, is_public
from shared.settings import WebSettings


def check_write_access(request: Request, settings: WebSettings) -> None:
    """Raises Refused (401 or 403) where this request may not write."""
    _refuse_other_sites(request)
    token = settings.write_token.get_secret_value()
    if token or is_public(settings):
        _check_token(request, token)
    elif settings.public == "auto" and not settings.published:
        _refuse_names_of_elsewhere(request)
    else:
        _refuse_rebound_names(request)


def _is_localhost_or_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return host.lower() == "localhost"
    return True


def _refuse_other_sites(request: Request) -> None:
    origin = request.headers.get("Origin")
    foreign_origin = origin is not None and urlsplit(origin).netloc.lower() != request.host.lower()
    if foreign_origin or request.headers.get("Sec-Fetch-Site") == "cross-site":
        raise Refused(
            403,
            f"A page of another site ({origin or 'unnamed'}) may not ask for or cancel forecasts here; "
            f"call the API from this site or from a program.",
            field="Origin",
        )


def _refuse_names_of_elsewhere(request: Request) -> None:
    """On loopback nobody but this machine can ask, unless a site lets its own name lead here."""
    if not is_loopback(_host_name(request.host)):
        raise Refused(
            403,
            f"Writing as {request.host} is refused: without web.write_token (KRONOS_WEB__WRITE_TOKEN) this server takes "
            f"requests only under a name of this machine, such as localhost.",
            field="Host",
        )


def _refuse_rebound_names(request: Request) -> None:
    """On a trusted network any program may write, but a browser only under a name that no other site can point here."""
    from_browser = "Origin" in request.headers or "Sec-Fetch-Site" in request.headers
    if from_browser and not _is_localhost_or_address(_host_name(request.host)):
        raise Refused(
            403,
            f"Writing from a browser as {request.host} is refused: any site can let its name lead here. Use an IP address "
            f"or localhost, or set web.write_token (KRONOS_WEB__WRITE_TOKEN).",
            field="Host",
        )


def _check_token(request: Request, token: str) -> None:
    scheme, _, given = request.headers.get("Authorization", "").partition(" ")
    if token and scheme.lower() == "bearer" and secrets.compare_digest(given.strip().encode(), token.encode()):
        return
    raise Refused(
        401,
        'Asking for and cancelling forecasts needs the header "Authorization: Bearer ..." with the server\'s web.write_token.',
        field="Authorization",
        headers={"WWW-Authenticate": 'Bearer realm="Kronos Live"'},
    )


def _host_name(host: str) -> str:
    return urlsplit(f"//{host}").hostname or ""
