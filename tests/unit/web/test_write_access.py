"""Who may enqueue work."""

from __future__ import annotations

import pytest
from flask import Request
from pydantic import SecretStr
from werkzeug.test import EnvironBuilder

from services.web.problems import Refused
from services.web.write_access import check_write_access
from shared.errors import SettingsError
from shared.publishing import is_loopback, is_public, refuse_public_without_token
from shared.settings import WebSettings, load_settings

OTHERS = {"host": "0.0.0.0"}  # noqa: S104 - said, not listened on
TOKEN = {"write_token": "s3cret"}


def web(**changes: object) -> WebSettings:
    delivered = load_settings().web.model_dump()
    return WebSettings.model_validate({**delivered, **changes})


def refusal(settings: WebSettings, host: str = "localhost:8000", **headers: str) -> int | None:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    request = Request(EnvironBuilder("/", base_url=f"http://{host}/", method="POST", headers=named).get_environ())
    try:
        check_write_access(request, settings)
    except Refused as refused:
        return refused.status
    return None


@pytest.mark.parametrize("host", ["localhost:8000", "127.0.0.1:8000", "[::1]:8000", "127.0.0.1"])
def test_on_loopback_this_machine_may_write(host: str) -> None:
    assert refusal(web(), host=host) is None


def test_on_loopback_a_name_that_leads_here_from_elsewhere_may_not() -> None:
    assert refusal(web(), host="rebound.example:8000", Origin="http://rebound.example:8000") == 403


@pytest.mark.parametrize(
    "settings",
    [
        web(**OTHERS),
        web(public=True),
        web(**OTHERS, public=True),
        *(web(**OTHERS, published=one) for one in ("0.0.0.0:8000", "8000", "[::]:80", "page.example:8000")),
        web(published="0.0.0.0:8000"),
    ],
)
def test_what_others_reach_does_not_start_without_a_token_and_lets_nobody_write(settings: WebSettings) -> None:
    assert is_public(settings)
    with pytest.raises(SettingsError, match=r"KRONOS_WEB__WRITE_TOKEN.*web\.public: false"):
        refuse_public_without_token(settings)
    assert refusal(settings) == refusal(settings, Authorization="Bearer ") == 401
    refuse_public_without_token(settings.model_copy(update={"write_token": SecretStr("s3cret")}))


@pytest.mark.parametrize(
    "settings",
    [
        web(),
        web(public=False),
        web(**OTHERS, public=False),
        *(web(**OTHERS, published=one) for one in ("127.0.0.1:8000", "[::1]:80", "localhost:8000")),
        web(**OTHERS, published="0.0.0.0:8000", public=False),
    ],
)
def test_what_only_this_machine_or_a_trusted_network_reaches_starts_without_a_token(settings: WebSettings) -> None:
    assert not is_public(settings)
    refuse_public_without_token(settings)


def test_in_a_container_that_is_published_on_loopback_its_neighbours_may_write_and_names_of_elsewhere_may_not() -> None:
    contained = web(**OTHERS, published="127.0.0.1:8000")
    assert refusal(contained, host="web:8000") is None
    assert refusal(contained, host="rebound.example:8000", Origin="http://rebound.example:8000") == 403


def test_on_a_trusted_network_no_token_is_asked() -> None:
    assert refusal(web(**OTHERS, public=False), host="web:8000") is None


@pytest.mark.parametrize("host", ["rebound.example:8000", "web:8000", "localhost.example"])
@pytest.mark.parametrize("with_origin", [True, False])
def test_on_a_trusted_network_a_browser_may_not_write_under_a_name_that_anybody_can_point_here(
    host: str, with_origin: bool
) -> None:
    sent = {"Sec_Fetch_Site": "same-origin", **({"Origin": f"http://{host}"} if with_origin else {})}
    assert refusal(web(**OTHERS, public=False), host=host, **sent) == 403
    allowed = web(**OTHERS, **TOKEN, public=False)
    assert refusal(allowed, host=host, Authorization="Bearer s3cret", **sent) is None


@pytest.mark.parametrize("host", ["localhost:8000", "127.0.0.1:8000", "192.168.1.5:8000", "[fe80::1]:8000"])
def test_on_a_trusted_network_a_browser_may_write_under_an_address_or_localhost(host: str) -> None:
    assert refusal(web(**OTHERS, public=False), host=host, Origin=f"http://{host}") is None


@pytest.mark.parametrize(
    "settings", [web(**TOKEN), web(**OTHERS, **TOKEN), web(**OTHERS, **TOKEN, public=False), web(**TOKEN, public=True)]
)
def test_a_configured_token_is_always_asked_for(settings: WebSettings) -> None:
    assert refusal(settings) == 401
    assert refusal(settings, Authorization="Bearer wrong") == 401
    assert refusal(settings, Authorization="Basic s3cret") == 401
    assert refusal(settings, Authorization="Bearer s3cret") is None


@pytest.mark.parametrize(
    "headers", [{"Origin": "https://evil.example"}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"}]
)
def test_a_page_of_another_site_may_not_write_even_with_the_token(headers: dict[str, str]) -> None:
    assert refusal(web(**TOKEN), Authorization="Bearer s3cret", **headers) == 403


def test_a_page_of_this_site_may_write() -> None:
    assert refusal(web(), Origin="http://localhost:8000", Sec_Fetch_Site="same-origin") is None


@pytest.mark.parametrize(
    ("host", "expected"),
    [("127.0.0.1", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("10.0.0.1", False), ("web", False)],  # noqa: S104
)
def test_loopback_is_told_by_address_or_name(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected
