"""The API's page for people: whole, true to the OpenAPI document, and without a script."""

from __future__ import annotations

import re

import httpx


def test_every_operation_and_schema_of_the_document_is_on_the_page(web: httpx.Client) -> None:
    document = web.get("/openapi/openapi.json").json()
    answer = web.get("/docs")
    assert answer.status_code == 200
    assert answer.headers["Content-Type"].startswith("text/html")
    page = answer.text
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            assert f">{method.upper()}</b> <code>{path}</code></h2>" in page
            for parameter in operation.get("parameters", []):
                assert f"<code>{parameter['name']}</code>" in page
    for name, schema in document["components"]["schemas"].items():
        assert "properties" not in schema or f'id="schema-{name}"' in page
    assert "<code>target_error</code>" in page
    assert "list of Band" in page


def test_the_page_has_no_script_and_every_link_within_it_leads_somewhere(web: httpx.Client) -> None:
    page = web.get("/docs").text
    assert "<script" not in page
    assert " style=" not in page
    links, places = set(re.findall(r'href="#([^"]+)"', page)), re.findall(r' id="([^"]+)"', page)
    assert links
    assert links <= set(places)
    assert len(places) == len(set(places))
    for address in re.findall(r'href="(/[^"]*)"', page):
        if address != "/":
            assert web.get(address).status_code == 200, address


def test_whoever_has_the_page_hears_that_nothing_has_changed(web: httpx.Client) -> None:
    tag = web.get("/docs").headers["ETag"]
    assert web.get("/docs", headers={"If-None-Match": tag}).status_code == 304


def test_every_page_leads_there(web: httpx.Client) -> None:
    for address in ("/", "/forecasts/nobody"):
        assert '<a href="/docs">' in web.get(address, headers={"Accept": "text/html"}).text
