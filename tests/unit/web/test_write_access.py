"""Who may enqueue work."""

from __future__ import annotations

import pytest
from flask import Request
from werkzeug.test import EnvironBuilder

from services.web.problems import Refused
from services.web.write_access import check_write_access, is_loopback
from shared.settings import WebSettings

OTHERS = {"host": "0.0.0.0"}  # noqa: S104 - said, not listened on
TOKEN = {"write_token": "s3cret"}


def web(**changes: object) -> WebSettings:
    as_delivered = {"host": "127.0.0.1", "port": 8000, "threads": 8, "max_streams": 9, "write_token": ""}
    return WebSettings.model_validate({**as_delivered, "trust_network": False, **changes})


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


def test_beyond_loopback_nobody_may_write_until_a_token_is_configured() -> None:
    assert refusal(web(**OTHERS)) == 403


def test_on_a_trusted_network_no_token_is_asked() -> None:
    assert refusal(web(**OTHERS, trust_network=True), host="web:8000") is None


@pytest.mark.parametrize("host", ["rebound.example:8000", "web:8000", "localhost.example"])
@pytest.mark.parametrize("with_origin", [True, False])
def test_on_a_trusted_network_a_browser_may_not_write_under_a_name_that_anybody_can_point_here(
    host: str, with_origin: bool
) -> None:
    sent = {"Sec_Fetch_Site": "same-origin", **({"Origin": f"http://{host}"} if with_origin else {})}
    assert refusal(web(**OTHERS, trust_network=True), host=host, **sent) == 403
    allowed = web(**OTHERS, **TOKEN, trust_network=True)
    assert refusal(allowed, host=host, Authorization="Bearer s3cret", **sent) is None


@pytest.mark.parametrize("host", ["localhost:8000", "127.0.0.1:8000", "192.168.1.5:8000", "[fe80::1]:8000"])
def test_on_a_trusted_network_a_browser_may_write_under_an_address_or_localhost(host: str) -> None:
    assert refusal(web(**OTHERS, trust_network=True), host=host, Origin=f"http://{host}") is None


@pytest.mark.parametrize("settings", [web(**TOKEN), web(**OTHERS, **TOKEN), web(**OTHERS, **TOKEN, trust_network=True)])
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
