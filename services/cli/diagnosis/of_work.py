"""Who works, and what waits for them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from services.cli.diagnosis.finding import Finding, ok, warning, wrong
from shared.forecast_queue import ForecastQueue
from shared.queue_overview import SILENT_AFTER_S, JobCounts, WorkerStatus
from shared.settings import LANES, Lane, QueueSettings, Settings


def examine_working(check: str, found: Sequence[WorkerStatus], command: str) -> Finding:
    """Whether any of those that work a queue gave a sign of life lately; `command` starts one."""
    heard, silent = [one for one in found if not one.silent], [one.name for one in found if one.silent]
    if not heard:
        last = f"; the last word of {', '.join(silent)} is over {SILENT_AFTER_S:.0f} s old" if silent else ""
        return wrong(
            check, f"None is alive{last}.", f"Start one with `{command}`, and look at its log if it ends again."
        )
    alive = f"{len(heard)} alive, last heard {min(one.heartbeat_age_s for one in heard):.0f} s ago"
    if silent:
        return warning(
            check,
            f"{alive}, but nothing was heard of {', '.join(silent)} for {SILENT_AFTER_S:.0f} s.",
            "Look at its log: it was killed or hangs; what was killed is forgotten after some minutes.",
        )
    return ok(check, f"{alive}.")


def examine_lane(lane: Lane, workers: Sequence[WorkerStatus], queue: QueueSettings) -> Finding:
    """Whether anybody makes what waits in a lane."""
    serving = [one for one in workers if queue.forecasts_in(lane) in one.queues]
    if not queue.heavy_models:
        return examine_working("workers", serving, "kronos-live worker")
    return examine_working(f"workers of the {lane} lane", serving, queue.worker_command(lane))


def examine_queue(queue: ForecastQueue, settings: Settings, now_ms: int) -> Iterator[Finding]:
    """The queues of forecasts and of fetches, at `now_ms`, UTC ms. Raises StoreUnavailableError."""
    questions = {lane: queue.counts_question(lane, now_ms) for lane in LANES}
    fetches = queue.fetches.counts_question(now_ms)
    found = queue.ask(fetches, *questions.values())
    shortest_s = min(series.interval.ms for series in settings.data.all_series) / 1000
    counts = {lane: found[question] for lane, question in questions.items()}
    told = {lane: one for lane, one in counts.items() if lane in queue.lanes or one.unfinished}
    for lane, one in told.items():
        yield _waiting("queue" if len(told) == 1 else f"{lane} lane", one, shortest_s)
    yield _room([*counts.values()], settings.limits.max_queued)
    failed = sum(one.failed for one in counts.values())
    yield _failed("failed forecasts", failed, "`kronos-live failed` lists them with their reasons.")
    yield _failed(
        "failed fetches", found[fetches].failed, "Look at ingest's log, which names what each venue answered."
    )


def _room(lanes: Sequence[JobCounts], most: int) -> Finding:
    """Whether another forecast could be asked for: what waits for klines, or in another lane, counts too."""
    waiting = sum(one.queued + one.waiting_for_klines for one in lanes)
    if waiting >= most:
        return wrong(
            "room in the queue",
            f"{waiting} jobs wait, so that new requests are turned away (limits.max_queued is {most}).",
            "Start more workers, or ask for less.",
        )
    return ok("room in the queue", f"{waiting} of {most} jobs that may wait do.")


def _waiting(check: str, jobs: JobCounts, shortest_s: float) -> Finding:
    told = f"{jobs.queued} jobs wait and {jobs.running} run"
    if jobs.oldest_age_s > shortest_s:
        return wrong(
            check,
            f"{told}, and the next has waited {jobs.oldest_age_s:.0f} s, longer than the shortest interval ({shortest_s:.0f} s).",
            "Start more workers, or ask for less: fewer series, paths or steps.",
        )
    return ok(check, f"{told}" + (f", the next for {jobs.oldest_age_s:.0f} s." if jobs.queued else "."))


def _failed(check: str, count: int, todo: str) -> Finding:
    if not count:
        return ok(check, "None failed lately.")
    return warning(check, f"{count} failed for good within queue.failure_ttl.", todo)
