"""One structured log format for every service: readable lines on a terminal, JSON elsewhere."""

from __future__ import annotations

import logging
import sys
from typing import Any

import structlog

from shared.settings import LogSettings


def configure_logs(settings: LogSettings, service: str) -> None:
    """Send our own logs and those of the libraries to standard error in one format, each line naming its service."""
    as_json = settings.format == "json" or (settings.format == "auto" and not sys.stderr.isatty())
    for_people = structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    renderer: Any = structlog.processors.JSONRenderer() if as_json else for_people
    shared_steps: list[Any] = [
        _naming(service),
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[*shared_steps, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared_steps,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                renderer,
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.level.upper())
    for chatty in ("httpx", "httpcore", "rq.worker", "rq.scheduler"):
        logging.getLogger(chatty).setLevel(max(logging.WARNING, root.level))


def _naming(service: str) -> structlog.typing.Processor:
    """Adds the service's name to a line, whichever of its threads wrote it."""

    def name(_: Any, __: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
        event["service"] = service
        return event

    return name


def quiet_logs(least: int = logging.WARNING) -> None:
    """For a command that a person runs: warnings alone, or what is as grave as `least`, in lines on standard error, apart from
    the command's own words.
    """
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(least),
        logger_factory=lambda *_: structlog.PrintLogger(sys.stderr),  # as it is now, which a progress bar may replace
    )


def get_logger(name: str) -> structlog.stdlib.BoundLogger:
    """A logger for a module; cheap, and quiet until `configure_logs` ran."""
    logger: structlog.stdlib.BoundLogger = structlog.get_logger(name)
    return logger
