"""Who may reach the web service and have it work for them, by the settings that it would start with here."""

from __future__ import annotations

from services.cli.diagnosis.finding import Finding, ok, warning, wrong
from shared.errors import SettingsError
from shared.publishing import is_loopback, is_public, reached_on, refuse_public_without_token
from shared.settings import WebSettings

SHORTEST_TOKEN = 16  # characters; what is shorter than this can be tried out


def examine_access(web: WebSettings) -> Finding:
    check, token = "access", web.write_token.get_secret_value()
    try:
        refuse_public_without_token(web)
    except SettingsError as error:
        return wrong(check, f"The web service does not start: {error}", "Make a token with `openssl rand -hex 32`.")
    if token and len(token) < SHORTEST_TOKEN:
        return warning(
            check,
            f"web.write_token has {len(token)} characters, which can be guessed.",
            "Make another with `openssl rand -hex 32`.",
        )
    if token:
        others = "others reach the page" if is_public(web) else "nobody else need reach the page"
        return ok(check, f"Asking for forecasts needs web.write_token; {others}.")
    if is_loopback(reached_on(web)):
        return ok(check, f"Only this machine reaches the page on {reached_on(web)}, so no token is needed.")
    return ok(
        check,
        f"Whoever reaches the page on {reached_on(web)} may ask for forecasts: web.public says that you trust them.",
    )
