"""Asking for forecasts, and cancelling them.

What may be asked for is checked in shared/adhoc_forecasts.py, for the command line alike.
"""

from __future__ import annotations

from collections.abc import Callable

from flask import Response, request
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.utils import parse_body

from services.web.api.answers import json_answer
from services.web.api.bodies import json_body
from services.web.api.contracts import WRITE_TOKEN, AcceptedAnswer, ForecastPath, PanelAnswer, PanelMember, problems
from services.web.situation import Stores
from services.web.write_access import check_write_access
from shared.adhoc_forecasts import ask_for_forecasts, read_wishes
from shared.errors import AlreadyEndedError
from shared.forecasts import ForecastOverrides, JobStatus
from shared.settings import Settings


def add_asking(api: APIBlueprint, settings: Settings, stores: Stores, now_ms: Callable[[], int]) -> None:
    content, schemas = parse_body(ForecastOverrides)
    api.components_schemas.update(schemas)
    body = {"requestBody": {"content": content, "required": False}}

    @api.post(
        "/forecasts",
        responses={202: AcceptedAnswer, **problems(400, 401, 403, 413, 415, 422, 429)},
        security=[{}, {WRITE_TOKEN: []}],  # asked for where one is configured
        openapi_extensions=body,
    )
    def ask() -> Response:
        """Ask for a forecast; an empty body asks for the configured one.

        It is computed by a worker; follow it at the address in Location. The same seed on the same snapshot gives the
        same paths. `symbols` asks for a panel: a forecast of each, all accepted or none, with the addresses in the
        body instead of a Location; a seed that is named is used for each.
        """
        check_write_access(request, settings.web)
        wishes = read_wishes(settings, json_body(settings.limits.max_body_bytes))
        ids = ask_for_forecasts(settings, stores.klines, stores.queue, wishes, now_ms())
        asked = [(stores.queue.status(one), f"{api.url_prefix}/forecasts/{one}") for one in ids]
        if wishes.symbols is None:
            [(job, address)] = asked
            return json_answer(job, 202, {"Location": address})
        panel = zip(wishes.symbols, asked, strict=True)
        return json_answer(
            PanelAnswer(
                forecasts=[PanelMember(**dict(job), symbol=symbol, address=address) for symbol, (job, address) in panel]
            ),
            202,
        )

    @api.delete(
        "/forecasts/<forecast_id>",
        responses={200: JobStatus, **problems(401, 403, 404, 409)},
        security=[{}, {WRITE_TOKEN: []}],
    )
    def cancel(path: ForecastPath) -> Response:
        """Cancel a forecast that waits or runs.

        One that waits leaves the queue at once. The worker of one that runs stops drawing within moments; where it
        draws others beside it, it goes on for those. Nothing of a cancelled forecast is stored. To cancel twice is to
        cancel once; what has finished or failed cannot be cancelled (409).
        """
        check_write_access(request, settings.web)
        if stores.forecasts.exists(path.forecast_id):
            raise AlreadyEndedError(f"Forecast {path.forecast_id} is finished and can no longer be cancelled.")
        return json_answer(stores.queue.cancel(path.forecast_id))
