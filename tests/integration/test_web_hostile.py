"""A thousand hostile requests, made from the OpenAPI document: no 5xx, nothing of a trace or of the house leaks, no header is
smuggled in, and the process stays. test_web_schemathesis holds the answers against the document; here nothing keeps to it.
"""

from __future__ import annotations

import json
import zlib
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import httpx
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from services.web.situation import Stores
from tests.conftest import PROJECT
from tests.integration.test_web_schemathesis import document
from tests.web_server import forecast_stored, ingested, web_server

REQUESTS = 1000
ID = "adhoc-there"
LEAKS = ("Traceback", 'File "', "site-packages", "redis://", "rq:job", str(PROJECT))
MOST_READ = 1 << 20  # bytes of an answer: a stream of events never ends

# As they stand in an address, percent-encoded where they must be.
NASTY = [
    "",
    "%00",
    "%ff%fe",
    "%ed%a0%80",  # half a surrogate pair
    "..%2f..%2fetc%2fpasswd",
    "../../etc/passwd",
    "%0d%0aX-Smuggled:%201",
    "%3Cscript%3Ealert(1)%3C/script%3E",
    "%7B%7B7*7%7D%7D",
    "%27%20OR%201%3D1--",
    "kronos:series",
    "*",
    "%",
    "%zz",
    "-1",
    "1e999",
    "NaN",
    "Infinity",
    "9" * 400,
    "A" * 3000,
    "%D9%A1%D9%A2",  # Arabic digits
    "%E2%80%AEBTCUSDT",  # written from right to left
    "BTCUSDT,BTCUSDT",
    "9999-99-99T99:99:99Z",
    "0001-01-01T00:00:00Z",
    "[]",
    "null",
    "true",
]
in_address = st.one_of(
    st.sampled_from([*NASTY, ID, "BTCUSDT", "1h", "24"]),
    st.text(max_size=30).map(lambda text: quote(text.encode("utf-8", "surrogatepass"))),
    st.integers().map(str),
    st.floats().map(str),
)
header_text = st.one_of(
    st.sampled_from(
        ["*", "text/html", "application/json;q=NaN", '"', "W/", "bytes=0-", "a=b;" * 200, "gzip", "zh;q=2"]
    ),
    st.text(st.characters(min_codepoint=0x20, max_codepoint=0xFF, exclude_characters="\x7f"), max_size=40),
)
HEADERS = [
    "Accept",
    "Accept-Encoding",
    "Accept-Language",
    "Authorization",
    "Content-Encoding",
    "Cookie",
    "Idempotency-Key",
    "If-None-Match",
    "Last-Event-ID",
    "Origin",
    "Range",
    "X-Forwarded-For",
    "X-HTTP-Method-Override",
]
FIELDS = ["symbol", "symbols", "interval", "horizon", "num_samples", "temperature", "top_p", "top_k", "seed", "history"]
FIELDS += ["model", "klines", "target_error", "__proto__", "__class__", "\ud800", ""]
in_json = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(["BTCUSDT", "1h", 24, 10**30, -1, 2**63, "<script>"]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*FIELDS, "open_time"]), inner, max_size=3)
    ),
    max_leaves=12,
)
in_csv = st.lists(
    st.lists(st.sampled_from(["open_time", "open", "close", "1", "=1+1", "NaN", '"', "\x00", "9" * 50]))
).map(lambda rows: "\n".join(",".join(row) for row in rows).encode())
bodies = st.one_of(
    st.just((None, b"")),
    st.dictionaries(st.sampled_from(FIELDS), in_json, max_size=4).map(
        lambda wish: ("application/json", json.dumps(wish).encode())
    ),
    st.binary(max_size=200).map(lambda raw: ("application/json", raw)),
    in_csv.map(lambda raw: ("text/csv", raw)),
    st.sampled_from(
        [
            ("application/json", b"[" * 50_000),
            ("application/json", b'{"symbol": "' + b"A" * 100_000),
            ("application/json", zlib.compress(b" " * 1_000_000)),
            ("text/csv", b"open_time,open\n" * 20_000),
            ("multipart/form-data; boundary=", b"--"),
            ("application/xml", b'<!DOCTYPE x [<!ENTITY y SYSTEM "file:///etc/passwd">]><x>&y;</x>'),
        ]
    ),
)


class Operation(NamedTuple):
    method: str
    path: str
    parameters: tuple[str, ...]


def operations() -> list[Operation]:
    """Of the document, and the pages, which are in none."""
    found = [
        Operation(
            method.upper(), path, tuple(one["name"] for one in described.get("parameters", []) if one["in"] == "query")
        )
        for path, methods in document()["paths"].items()
        for method, described in methods.items()
    ]
    pages = (
        "/",
        "/forecasts/{forecast_id}",
        "/track-record",
        "/docs",
        "/static/{file}",
        "/metrics",
        "/livez",
        "/{nothing}",
    )
    return found + [Operation("GET", page, ("symbol", "interval", "origin", "lang")) for page in pages]


OPERATIONS = operations()


@st.composite
def requests(draw: st.DrawFn) -> dict[str, Any]:
    """A request that keeps to nothing: the values, the method, the headers and the body are whatever was drawn."""
    operation = draw(st.sampled_from(OPERATIONS))
    path = operation.path
    while "{" in path:
        before, _, rest = path.partition("{")
        path = f"{before}{draw(in_address)}{rest.partition('}')[2]}"
    names = st.sampled_from([*operation.parameters, "page", "__class__", "%00"])
    query = "&".join(f"{name}={value}" for name, value in draw(st.lists(st.tuples(names, in_address), max_size=4)))
    kind, body = draw(bodies)
    headers = draw(st.dictionaries(st.sampled_from(HEADERS), header_text.map(lambda text: text.strip()), max_size=3))
    method = draw(
        st.sampled_from([operation.method] * 6 + ["POST", "DELETE", "PUT", "PATCH", "HEAD", "OPTIONS", "BREW"])
    )
    return {
        "method": method,
        "target": f"{path or '/'}{'?' if query else ''}{query}",
        "headers": {**headers, **({"Content-Type": kind} if kind else {})},
        "content": body,
    }


def test_a_thousand_hostile_requests_meet_no_defect(redis_url: str, stores: Stores, tmp_path: Path) -> None:
    forecast_stored(stores, ingested(stores), forecast_id=ID)
    statuses: list[int] = []
    # A connection for each: an idle one may be closed in the moment that it is used again.
    anew = httpx.Client(timeout=60, trust_env=False, limits=httpx.Limits(max_keepalive_connections=0))
    with web_server(redis_url, tmp_path) as (address, running), anew as client:

        @settings(
            max_examples=REQUESTS,
            deadline=None,
            derandomize=True,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(requests())
        def send(request: dict[str, Any]) -> None:
            host, port = address.removeprefix("http://").split(":")
            # The target goes as it is drawn: httpx would tidy it up.
            url = httpx.URL(scheme="http", host=host, port=int(port), raw_path=request["target"].encode())
            headers = {name: value.encode("latin-1") for name, value in request["headers"].items()}
            with client.stream(request["method"], url, headers=headers, content=request["content"]) as answer:
                told = b""
                if not answer.headers.get("Content-Type", "").startswith("text/event-stream"):
                    for piece in answer.iter_bytes():
                        told += piece
                        if len(told) > MOST_READ:
                            break
            statuses.append(answer.status_code)
            assert answer.status_code < 500, told[:500]
            assert "X-Smuggled" not in answer.headers
            for leak in LEAKS:
                assert leak.encode() not in told, (leak, told[:500])

        send()
        assert running.process.poll() is None
        assert httpx.get(f"{address}/livez", timeout=30, trust_env=False).status_code == 200
        for word in ("met a defect", "Traceback"):
            assert word not in running.log()
    assert len(statuses) >= REQUESTS
    assert {200, 404, 405, 422} <= set(statuses), "they came to every door, and not only to the first one"
