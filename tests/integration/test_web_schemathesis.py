"""schemathesis over the OpenAPI document: whatever fits it or does not, no 5xx, and every answer as documented."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from redis import Redis
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_schema_conformance,
    status_code_conformance,
)

from services.web.app import create_app
from services.web.situation import Stores
from shared.forecast_queue import ForecastQueue
from shared.forecast_store import ForecastStore
from shared.kline_store import KlineStore
from shared.rate_limits import RateLimits
from tests.builders import settings as delivered_settings
from tests.past_forecasts import Market

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
    negative_data_rejection,
]
ENDLESS = (
    "/api/v1/events",
    "/api/v1/forecasts/{forecast_id}/events",
)  # a stream never ends; test_web_events reads them
ID = "adhoc-there"
LONGEST_LINE = 4094  # bytes, gunicorn's limit_request_line


def document() -> dict[str, Any]:
    """The OpenAPI document as the service gives it; nothing connects until it is asked."""
    redis = Redis(port=1)
    delivered = delivered_settings()
    queue = ForecastQueue(redis, delivered.queue)
    app = create_app(delivered, KlineStore(redis, 1), ForecastStore(redis, 1), queue, RateLimits(redis))
    return dict(app.test_client().get("/openapi/openapi.json").get_json())


schema = schemathesis.openapi.from_dict(document()).exclude(path=list(ENDLESS))


@pytest.fixture(autouse=True)
def _two_forecasts(web: httpx.Client, stores: Stores) -> None:
    market = Market(stores)
    market.forecast(7, forecast_id=ID)  # so that there is something to tell of what followed
    market.forecast(0)


def call_and_validate(case: schemathesis.Case, address: str) -> None:
    """Which cases are made depends on the modules that hypothesis has seen, and some are longer than a request line may be:
    those gunicorn refuses by itself, before the API hears of them.
    """
    answer = case.call(base_url=address, timeout=30)
    if answer.status_code == 414:
        assert len(answer.request.path_url or "") > LONGEST_LINE - len("DELETE  HTTP/1.1")
        return
    case.validate_response(answer, checks=CHECKS)


@schema.parametrize()
@settings(
    max_examples=25,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
def test_every_answer_is_as_documented(case: schemathesis.Case, web_address: str) -> None:
    call_and_validate(case, web_address)


@schema.include(path_regex="forecast_id").parametrize()
@settings(
    max_examples=10,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)
def test_so_is_that_of_a_forecast_that_is_there(case: schemathesis.Case, web_address: str) -> None:
    case.path_parameters = {**case.path_parameters, "forecast_id": ID}
    call_and_validate(case, web_address)
