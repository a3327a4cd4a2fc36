"""What is said loudest about a series or a forecast: its state, what failed, and what to do.

Decides what is said and in which order; in which words is in static/words, how it looks in templates/ and static/.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from services.web.formats import percent, signed_percent
from services.web.languages import Saying
from services.web.situation import Freshness, Situation, what_is_missing, why_nothing_newer
from shared.fetches import FETCHING
from shared.forecasts import Forecast, JobStatus
from shared.klines import utc
from shared.settings import Lane
from shared.track_record import TrackRecord

LONG_QUEUE = 8  # waiting forecasts for each worker: from there on a person waits longer than they expect

Tone = Literal[
    "live", "stale", "simulated", "recorded", "bundled", "past", "waiting", "failed", "worker", "queue", "drift"
]


@dataclass(frozen=True)
class Notice:
    """One thing said in big letters, with the sentences below it; `kind` is the key of its title. `of_record`: whether the
    track record tells more of it.
    """

    tone: Tone
    kind: str
    text: Sequence[Saying]
    since: datetime | None = None
    job: JobStatus | None = None
    of_record: bool = False


def latest_notices(situation: Situation, fresh: Freshness | None, record: TrackRecord | None) -> list[Notice]:
    """What the front page says loudest; `fresh` is None where there is no forecast yet, and `record` where none that was
    made as the latest one has been scored.
    """
    notices = []
    if situation.latest is None or fresh is None:
        notices.append(Notice("waiting", "notice.none", what_is_missing(situation)))
    else:
        notices += _state_notices(situation, situation.latest, fresh)
    if not situation.workers:
        notices.append(worker_notice(situation.lane, situation.silent_since, situation.worker_command))
    elif situation.queued > LONG_QUEUE * situation.workers:
        counted = {"waiting": situation.queued, "workers": situation.workers}
        notices.append(Notice("queue", "notice.queue", [Saying("notice.queue_text", counted)]))
    notices += drift_notices(record)
    if situation.coming is not None:
        notices.append(job_notice(situation.coming))
    return notices


def _state_notices(situation: Situation, forecast: Forecast, fresh: Freshness) -> list[Notice]:
    made_of = forecast_notices(forecast)
    if fresh.state == "stale":
        why = why_nothing_newer(situation, forecast)
        return [Notice("stale", "notice.stale", why, since=fresh.since), *made_of]
    if fresh.state == "live":
        venue = Saying("notice.live_text", {"venue": forecast.provenance.venue.capitalize()})
        return [Notice("live", "notice.live", [venue]), *made_of]
    return made_of


def forecast_notices(forecast: Forecast) -> list[Notice]:
    """What must be said of a forecast wherever it is shown, because of what it was made of."""
    notices = []
    made = forecast.provenance
    if made.origin == "simulated":
        notices.append(Notice("simulated", "notice.simulated", [Saying("notice.simulated_text")]))
    if made.origin == "recorded":
        notices.append(Notice("recorded", "notice.recorded", [Saying("notice.recorded_text")]))
    if made.origin == "uploaded":
        notices.append(Notice("recorded", "notice.uploaded", [Saying("notice.uploaded_text")]))
    if forecast.request.fetched_by:
        until = {"venue": made.venue.capitalize(), "when": utc(forecast.last_open_time_ms)}
        notices.append(Notice("recorded", "notice.fetched", [Saying("notice.fetched_text", until)]))
    if made.model.source == "bundled":
        key = "notice.bundled_instead_text" if made.model_stands_in_for else "notice.bundled_text"
        named = {"model": made.model.name, "other": made.model_stands_in_for}
        notices.append(Notice("bundled", "notice.bundled", [Saying(key, named)]))
    return notices


def drift_notices(record: TrackRecord | None) -> list[Notice]:
    """What the newest forecasts do that they should not, what it means and what to do; nothing while they do as they should."""
    said = [*_coverage_drift(record), *_skill_drift(record)] if record else []
    return [Notice("drift", "notice.drift", [*said, Saying("drift.what_to_do")], of_record=True)] if said else []


def _coverage_drift(record: TrackRecord) -> list[Saying]:
    drift = record.drift
    if not (drift and drift.drifted):
        return []
    shares = {"covered": drift.covered, "lower": drift.expected_from, "upper": drift.expected_to}
    told = {"n": drift.forecasts, "level": drift.level, **{name: percent(share) for name, share in shares.items()}}
    kind = "recalibrated" if drift.recalibrated else "raw"
    direction = "narrow" if drift.covered < drift.expected_from else "wide"
    return [Saying(f"drift.coverage_{kind}", told), Saying(f"drift.{direction}")]


def _skill_drift(record: TrackRecord) -> list[Saying]:
    drift = record.skill_drift
    if not (drift and drift.drifted):
        return []
    skills = {
        "skill": drift.skill,
        "before": drift.skill_before,
        "lower": drift.expected_from,
        "upper": drift.expected_to,
    }
    told = {"n": drift.forecasts, **{name: signed_percent(skill) for name, skill in skills.items()}}
    direction = "worse" if drift.skill < drift.expected_from else "better"
    return [Saying("drift.skill", told), Saying(f"drift.{direction}")]


def past_notice() -> Notice:
    """That a forecast speaks of candles that are over."""
    return Notice("past", "notice.past", [Saying("notice.past_text")])


def worker_notice(lane: Lane, silent_since: datetime | None, command: str) -> Notice:
    """That nobody computes what waits in a lane, and what to do; where there are workers, since when none was heard."""
    if silent_since:
        return Notice(
            "worker",
            "notice.worker_silent",
            [Saying("notice.worker_silent_text", {"command": command})],
            since=silent_since,
        )
    text = "notice.worker_text" if lane == "light" else "notice.worker_heavy_text"
    return Notice("worker", "notice.worker", [Saying(text, {"command": command})])


def job_notice(job: JobStatus) -> Notice:
    """How a forecast on its way stands."""
    if job.state == "failed":
        return Notice("failed", "notice.failed", [Saying("why.raw", {"text": job.error or ""})], job=job)
    if job.state == "cancelled":
        return Notice("waiting", "notice.cancelled", [Saying("why.raw", {"text": job.error or ""})], job=job)
    if job.state == "running":
        key = "notice.retried_text" if job.tries > 1 else "notice.running_text"
        return Notice("waiting", "notice.running", [Saying(key, {"id": job.id, "tries": job.tries})], job=job)
    if job.progress is not None:  # it waits for klines, and joins the queue when they are there
        key = "notice.fetching_text" if job.progress.phase == FETCHING else "notice.fetch_waits_text"
        return Notice("waiting", "notice.fetching", [Saying(key, {"id": job.id})], job=job)
    queued = Saying("notice.queued_text", {"id": job.id, "position": job.position or 0})
    return Notice("waiting", "notice.queued", [queued], job=job)
