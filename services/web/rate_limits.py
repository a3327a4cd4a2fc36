"""Turns away who asks too often, before anything is computed for them: 429, with the time to wait.

What writes (asks for forecasts or cancels them) and what reads are counted apart, by the client's address. Who asks from this
very machine is not counted, unless the service is public: then a proxy may stand here. Files, health and metrics are free.
"""

from __future__ import annotations

import ipaddress
import math

from flask import Flask, request
from werkzeug.middleware.proxy_fix import ProxyFix

from services.web.problems import Refused
from shared.publishing import is_loopback, is_public
from shared.rate_limits import RateLimits
from shared.settings import Settings

READING = {"GET", "HEAD", "OPTIONS"}
FREE = ("/static/", "/livez", "/readyz", "/metrics")
NETWORK_BITS = 64  # of an IPv6 address: whoever has one has all that begin so


def limit_requests(app: Flask, settings: Settings, limits: RateLimits) -> None:
    """From here on `app` counts requests; a client is who stands before the web.proxies nearest ones."""
    if settings.web.proxies:
        app.wsgi_app = ProxyFix(app.wsgi_app, x_for=settings.web.proxies, x_proto=0, x_host=0)  # type: ignore[method-assign]
    public = is_public(settings.web)

    @app.before_request
    def _count() -> None:
        address = request.remote_addr or ""
        if request.path.startswith(FREE) or (is_loopback(address) and not public):
            return
        reads = request.method in READING
        knob = "reads_per_minute" if reads else "writes_per_minute"
        per_minute: int = getattr(settings.limits, knob)
        if per_minute and (wait_s := limits.take("reads" if reads else "writes", client_of(address), per_minute)):
            raise Refused(
                429,
                f"Too many requests from {address}: {per_minute} a minute are allowed (limits.{knob}); try again in "
                f"{math.ceil(wait_s)} s.",
                headers={"Retry-After": str(math.ceil(wait_s))},
            )


def client_of(address: str) -> str:
    """What requests are counted by: an IPv4 address, or the network of an IPv6 one."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return "unknown"
    if isinstance(found, ipaddress.IPv6Address):
        if found.ipv4_mapped:
            return str(found.ipv4_mapped)
        return str(ipaddress.ip_network((found, NETWORK_BITS), strict=False))
    return str(found)
