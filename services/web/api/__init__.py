"""The JSON API under /api/v1: ask for forecasts, follow them, read them, take their paths. Knows HTTP and the contracts."""

from __future__ import annotations

from collections.abc import Callable

from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.tag import Tag

from services.web.api.asking import add_asking
from services.web.api.computing import add_computing
from services.web.api.events import add_events
from services.web.api.exports import add_exports
from services.web.api.imported import add_imported
from services.web.api.operations import add_operations
from services.web.api.outcome import add_outcome
from services.web.api.parts import add_parts
from services.web.api.reading import add_reading
from services.web.api.record import add_record
from services.web.records import Records
from services.web.situation import Stores
from shared.settings import Settings


def forecast_api(settings: Settings, stores: Stores, records: Records, now_ms: Callable[[], int]) -> APIBlueprint:
    """The blueprint; `stores` are its only way to the rest of the house, `records` reads through them."""
    api = APIBlueprint(
        "api",
        __name__,
        url_prefix="/api/v1",
        abp_tags=[Tag(name="forecasts")],
        operation_id_callback=lambda *, name, **_: name,
    )
    add_asking(api, settings, stores, now_ms)
    add_reading(api, settings, stores, now_ms)
    add_computing(api, stores)
    add_operations(api, settings, stores, now_ms)
    add_parts(api, stores)
    add_outcome(api, stores, now_ms)
    add_exports(api, stores)
    add_record(api, settings, records)
    add_imported(api, settings, records)
    add_events(api, settings, stores, now_ms)
    return api
