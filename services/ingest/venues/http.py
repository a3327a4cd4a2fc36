"""One question to a venue over HTTP, and all that can go wrong with it in our own words.

Knows status codes and headers; what an answer's content means is for each venue's own room.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import httpx

from services.ingest.metrics import TALLY, VENUE_WEIGHT
from shared.errors import VenueError
from shared.logs import get_logger

REST_S = {429: 60.0, 418: 120.0}  # where a venue forgets to say how long
LONGEST_REST_S = 3 * 86_400.0  # Binance's longest ban; nobody is left alone for longer, whatever a header says
OK, BAD_REQUEST, FORBIDDEN, TEAPOT, TOO_MANY, LEGAL = 200, 400, 403, 418, 429, 451

log = get_logger(__name__)


@dataclass(frozen=True)
class Answer:
    """What a venue said: parsed JSON, and its time in UTC ms (to the second) where it gave one."""

    source: str
    content: Any
    date_ms: int | None

    def members(self) -> dict[str, Any]:
        """The content where it is an object. Raises VenueError."""
        if not isinstance(self.content, dict):
            raise VenueError(f"{self.source} answered with {type(self.content).__name__} where an object was expected.")
        return self.content


class VenueHttp:
    """Asks one address of one venue. `source` is both, for messages."""

    def __init__(self, venue: str, base_url: str, client: httpx.Client) -> None:
        self._base_url = base_url.rstrip("/")
        self._client = client
        self.source = f"{venue} ({base_url.rstrip('/').removeprefix('https://')})"

    def get(self, path: str, params: Mapping[str, str | int]) -> Answer:
        """GET a JSON answer with status 200 or 400: a venue explains in the content why it refuses a question.

        Raises VenueError, with `retry_after_s` where the venue asks to be left alone.
        """
        try:
            response = self._client.get(self._base_url + path, params=dict(params))
        except httpx.TimeoutException:
            raise VenueError(f"{self.source} did not answer in time.") from None
        except (httpx.UnsupportedProtocol, httpx.InvalidURL):
            raise VenueError(f"{self.source} is no web address: write it as https://host in the settings.") from None
        except httpx.ConnectError as error:
            raise VenueError(f"{self.source} cannot be reached ({error}).") from None
        except httpx.HTTPError as error:
            raise VenueError(f"{self.source} broke off its answer ({error or type(error).__name__}).") from None
        if response.status_code not in (OK, BAD_REQUEST):
            raise self._refusal(response)
        if weight := response.headers.get("X-MBX-USED-WEIGHT-1M"):
            log.debug("venue_weight_used", source=self.source, used=weight, of_per_minute=6000)
            if weight.isdecimal():
                TALLY.set(VENUE_WEIGHT, int(weight), self.source)
        try:
            return Answer(self.source, response.json(), _date_ms(response.headers.get("Date")))
        except (ValueError, RecursionError):  # the latter for brackets nested without end
            raise VenueError(f"{self.source} answered with something that is not JSON.") from None

    def _refusal(self, response: httpx.Response) -> VenueError:
        status = response.status_code
        rest = _retry_after_s(response.headers.get("Retry-After"), REST_S.get(status))
        if status == TOO_MANY:
            reason = f"was asked too often and wants to be left alone for {rest:g} s"
        elif status == TEAPOT:
            reason = f"has banned this address for {rest:g} s"
        elif status == LEGAL:
            reason = "is not offered in this country"
        elif status == FORBIDDEN:
            reason = "turned us away at its firewall"
        elif status >= 500:
            reason = "has trouble of its own"
        else:
            reason = "gave an answer that is none"
        return VenueError(f"{self.source} {reason} (HTTP {status}).", retry_after_s=rest)


def _retry_after_s(header: str | None, otherwise: float | None) -> float | None:
    """Seconds, as venues write it; also a date, as HTTP allows. At most LONGEST_REST_S."""
    if header is not None and header.strip().isdecimal():
        return min(float(header), LONGEST_REST_S)
    at_ms = _date_ms(header)
    if at_ms is None:
        return otherwise
    return min(max(at_ms / 1000 - datetime.now(UTC).timestamp(), 0.0), LONGEST_REST_S)


def _date_ms(header: str | None) -> int | None:
    try:
        return round(parsedate_to_datetime(header or "").timestamp() * 1000)
    except (ValueError, OverflowError):
        return None
