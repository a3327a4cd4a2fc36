"""The Flask application: the API, the page and the health checks on stores that are handed in.

Connects to nothing and reads no environment; services/web/main.py does.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from importlib.metadata import version

from flask import Flask, Response, g, jsonify, request
from flask_openapi3.models.info import Info
from flask_openapi3.openapi import OpenAPI

from services.web.api import forecast_api
from services.web.api.bodies import refuse_parameters
from services.web.api.contracts import WRITE_TOKEN
from services.web.compression import compressed
from services.web.docs import documentation
from services.web.health import health_pages
from services.web.metrics import metrics_page
from services.web.pages import forecast_pages
from services.web.problems import Problem, register_problems
from services.web.rate_limits import limit_requests
from services.web.records import Records
from services.web.situation import Stores
from shared.forecast_queue import ForecastQueue
from shared.forecast_store import ForecastStore
from shared.kline_store import KlineStore
from shared.logs import get_logger
from shared.rate_limits import RateLimits
from shared.settings import Settings

SECURITY_HEADERS = {
    # Plotly sets styles on what it draws; nothing else comes from anywhere but this server.
    "Content-Security-Policy": (
        "default-src 'self'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
        "connect-src 'self'; object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=()",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}

log = get_logger(__name__)


def wall_clock_ms() -> int:
    return time.time_ns() // 1_000_000


def create_app(
    settings: Settings,
    klines: KlineStore,
    forecasts: ForecastStore,
    queue: ForecastQueue,
    rate_limits: RateLimits,
    now_ms: Callable[[], int] = wall_clock_ms,
) -> Flask:
    """The application as WSGI callable; `now_ms` is the clock that staleness is judged by, in UTC ms."""
    app = OpenAPI(
        __name__,
        info=Info(
            title="Kronos Live", version=version("kronos-live"), description="Kline forecasts. Not investment advice."
        ),
        validation_error_callback=refuse_parameters,
        validation_error_model=Problem,
        security_schemes={WRITE_TOKEN: {"type": "http", "scheme": "bearer"}},
        doc_ui=False,
    )
    stores = Stores(klines, forecasts, queue)
    records = Records(stores)
    app.register_api(forecast_api(settings, stores, records, now_ms))
    app.register_blueprint(forecast_pages(settings, stores, records, now_ms))
    app.register_blueprint(health_pages(settings, stores, now_ms))
    app.register_blueprint(metrics_page(settings, stores, records, now_ms))
    app.register_blueprint(documentation(lambda: app.api_doc))
    app.add_url_rule("/openapi/openapi.json", "openapi", lambda: jsonify(app.api_doc))
    register_problems(app)
    app.before_request(_note_start)
    limit_requests(app, settings, rate_limits)
    app.after_request(compressed)
    app.after_request(_secure)
    app.after_request(_log_request)
    return app


def _note_start() -> None:
    g.started = time.perf_counter()


def _secure(response: Response) -> Response:
    response.headers.extend({name: value for name, value in SECURITY_HEADERS.items() if name not in response.headers})
    return response


def _log_request(response: Response) -> Response:
    quiet = request.method in {"GET", "HEAD"} and response.status_code < 400
    (log.debug if quiet else log.info)(
        "request",
        method=request.method,
        path=request.path,
        status=response.status_code,
        seconds=round(time.perf_counter() - g.started, 4) if "started" in g else None,
    )
    return response
