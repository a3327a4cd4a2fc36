"""One structured log format for every service: readable lines on a terminal, JSON elsewhere."""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING, Any

import structlog

if TYPE_CHECKING:  # settings are read before there is a log, and warn through here
    from shared.settings import LogSettings


def configure_logs(settings: LogSettings, service: str) -> None:
    """Send our own logs and those of the libraries to standard error in one format, each line naming its service."""
    renderer = _renderer(settings)
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


def warn_before_logs(settings: LogSettings, event: str, **said: Any) -> None:
    """One warning on standard error in the format of the logs, from before they are configured."""
    if logging.getLevelName(settings.level.upper()) <= logging.WARNING:
        line = {"event": event, **said, "service": "settings", "level": "warning"}
        stamped = structlog.processors.TimeStamper(fmt="iso", utc=True)(None, "warning", line)
        print(_renderer(settings)(None, "warning", stamped), file=sys.stderr)


def _renderer(settings: LogSettings) -> Any:
    if settings.format == "json" or (settings.format == "auto" and not sys.stderr.isatty()):
        return structlog.processors.JSONRenderer()
    return structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())


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
