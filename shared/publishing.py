"""Who can reach the web service, by its settings: this machine alone, a network that is trusted, or anybody. Pure."""

from __future__ import annotations

import ipaddress

from shared.errors import SettingsError
from shared.settings import WebSettings


def is_loopback(host: str) -> bool:
    """Whether a host, as a name or an address, is this machine alone."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def reached_on(web: WebSettings) -> str:
    """The host by which it is reached: web.published's, of which a port alone is every address of this machine, as Docker
    has it; or web.host.
    """
    if not web.published:
        return web.host
    return web.published.rpartition(":")[0].strip("[]") or "0.0.0.0"  # noqa: S104 - said, not listened on


def is_public(web: WebSettings) -> bool:
    """Whether others may reach it: what web.public says, or where that is auto by where it is reached."""
    return not is_loopback(reached_on(web)) if web.public == "auto" else web.public


def refuse_public_without_token(web: WebSettings) -> None:
    """Raises SettingsError where anybody who reaches the service could have it work for them."""
    if is_public(web) and not web.write_token.get_secret_value():
        published = f"the page is published on {web.published} (web.published; in compose KRONOS_COMPOSE_WEB)"
        host = f"{published if web.published else f'web.host (KRONOS_WEB__HOST) is {web.host}'}, beyond this machine"
        why = host if web.public == "auto" else "web.public (KRONOS_WEB__PUBLIC) is true"
        raise SettingsError(
            f"{why}, but web.write_token is empty: set one (KRONOS_WEB__WRITE_TOKEN), which whoever asks for forecasts must "
            f"send, or web.public: false where only people that you trust reach the service.",
            field="web.write_token",
        )
