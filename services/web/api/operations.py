"""What an operator asks: which workers are alive and what they have loaded, what waits, runs and has failed."""

from __future__ import annotations

from collections.abc import Callable

from flask import Response
from flask_openapi3.blueprint import APIBlueprint

from services.web.api.answers import json_answer
from services.web.api.contracts import (
    FailedAnswer,
    FailedQuery,
    ModelsAnswer,
    NameableModel,
    QueueAnswer,
    WorkersAnswer,
    problems,
)
from services.web.situation import Stores
from shared.settings import MODEL_NAMES, Settings


def add_operations(api: APIBlueprint, settings: Settings, stores: Stores, now_ms: Callable[[], int]) -> None:
    @api.get("/workers", responses={200: WorkersAnswer, **problems()})
    def workers() -> Response:
        """The workers that are alive: what each is at, which model it has loaded, and when it was last heard of; and ingests."""
        now = now_ms()
        workers = stores.queue.worker_statuses_question(now)
        ingests = stores.queue.fetches.ingest_statuses_question(now)
        answers = stores.ask(workers, ingests)
        return json_answer(WorkersAnswer(workers=answers[workers], ingests=answers[ingests]))

    @api.get("/queue", responses={200: QueueAnswer, **problems()})
    def queue() -> Response:
        """How many forecasts wait, how long the next has waited, and how far those are that run."""
        now = now_ms()
        at_hand = sum(not worker.silent for worker in stores.queue.worker_statuses(now))
        overview, ingests = stores.queue.overview(now), stores.queue.fetches.ingests()
        return json_answer(
            QueueAnswer(**dict(overview), most=settings.limits.max_queued, workers=at_hand, ingests=ingests)
        )

    @api.get("/queue/failed", responses={200: FailedAnswer, **problems(422)})
    def failed(query: FailedQuery) -> Response:
        """What has failed for good, each with its reason in one sentence."""
        return json_answer(FailedAnswer(failed=stores.queue.failed(query.limit)))

    @api.get("/models", responses={200: ModelsAnswer, **problems()})
    def models() -> Response:
        """The models that a request may name, and what the workers have loaded."""
        alive = stores.queue.worker_statuses(now_ms())
        loaded = {worker.model for worker in alive if worker.model is not None}
        return json_answer(
            ModelsAnswer(
                models=[
                    NameableModel.model_validate(
                        {
                            "name": name,
                            "configured": name == settings.model.model_name,
                            "loaded_by": [one.name for one in alive if one.model and one.model.name == name],
                        }
                    )
                    for name in MODEL_NAMES
                ],
                loaded=sorted(loaded, key=lambda model: model.model_dump_json()),
            )
        )
