"""Everything that can go wrong here, as one tree.

    KronosLiveError
    ├── SettingsError            a knob is unknown, of the wrong type or out of range
    ├── RequestError             what a person asked for cannot be done as asked (HTTP 422)
    │   └── UnknownSeriesError   the symbol and interval are not ingested
    ├── KlineError               klines that break their own rules: gaps, disorder, impossible prices
    ├── VenueError               a market venue did not give usable klines
    │   └── UnknownSymbolError   the venue answers, but does not trade that symbol
    ├── KlinesNotFetchedError    the klines that a forecast waited for could not be had
    ├── CheckpointError          a model's files cannot be loaded: missing, wrong hash, wrong tensor
    │   └── UnknownModelError    no model of that name is known
    ├── OutOfMemoryError         not even the smallest piece of the work fits a worker's memory
    ├── NotFoundError            no snapshot, forecast or job has that id
    ├── QueueFullError           too many forecasts wait already; later is fine (HTTP 429)
    ├── AlreadyEndedError        what is to be cancelled has finished or failed before (HTTP 409)
    ├── StillAnsweringError      the same request is being carried out already (HTTP 409)
    ├── ForecastCancelledError   somebody has cancelled the forecast that is being worked on
    ├── PublishError             the static site cannot be written, or its history not kept
    ├── ServiceError             a Kronos Live service does not answer its client, or not as it should
    └── StoreUnavailableError    Redis does not answer

The message of each is one sentence for the person who reads it: what was wrong, with which value, what is allowed and
what to do. `field` names the part of a request or the knob that it speaks of, where there is one.
"""

from __future__ import annotations


class KronosLiveError(Exception):
    """The root of the tree. `permanent` says whether the same work could succeed if it were only tried again."""

    permanent = False

    def __init__(self, message: str, *, field: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.field = field


class SettingsError(KronosLiveError):
    permanent = True


class RequestError(KronosLiveError):
    permanent = True


class UnknownSeriesError(RequestError):
    pass


class KlineError(KronosLiveError):
    pass


class VenueError(KronosLiveError):
    """`retry_after_s` is how long the venue asked to be left alone, in seconds; None where it did not say."""

    def __init__(self, message: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class UnknownSymbolError(VenueError):
    pass


class KlinesNotFetchedError(KronosLiveError):
    permanent = True


class CheckpointError(KronosLiveError):
    permanent = True


class UnknownModelError(CheckpointError):
    pass


class OutOfMemoryError(KronosLiveError):
    pass


class NotFoundError(KronosLiveError):
    permanent = True


class QueueFullError(KronosLiveError):
    pass


class AlreadyEndedError(KronosLiveError):
    permanent = True


class StillAnsweringError(KronosLiveError):
    pass


class ForecastCancelledError(KronosLiveError):
    permanent = True


class PublishError(KronosLiveError):
    pass


class ServiceError(KronosLiveError):
    pass


class StoreUnavailableError(KronosLiveError):
    pass
