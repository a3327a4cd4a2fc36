"""Pages of forecasts out of several indexes at once: the merge, newest first, and the cursor that continues it. Pure.

A cursor says of each index which forecast was seen last, so nothing that comes in meanwhile shifts a page.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Sequence
from dataclasses import dataclass

from shared.errors import RequestError
from shared.forecasts import Forecast

Found = tuple[str, Forecast | None]  # an id and its record; none where another version wrote it or retention dropped it


@dataclass(frozen=True)
class Page:
    forecasts: list[Forecast]
    next: str | None  # the cursor of the next page, none where this is the last


def merged(found: Sequence[Sequence[Found]], last_seen: Sequence[str], limit: int, series: str) -> Page:
    """Of each index what lies behind its last id seen, newest first and at least `limit` + 1 where there is so much."""
    places, forecasts = [0] * len(found), list[Forecast]()
    while len(forecasts) < limit:
        for index, records in enumerate(found):  # what cannot be read is passed over
            while places[index] < len(records) and records[places[index]][1] is None:
                places[index] += 1
        heads = {
            index: record
            for index, (place, records) in enumerate(zip(places, found, strict=True))
            if place < len(records) and (record := records[place][1]) is not None
        }
        if not heads:
            break
        newest = max(heads, key=lambda index: heads[index].created_at)
        forecasts.append(heads[newest])
        places[newest] += 1
    if all(place == len(records) <= limit for place, records in zip(places, found, strict=True)):
        return Page(forecasts, None)
    seen = [
        records[place - 1][0] if place else last for place, records, last in zip(places, found, last_seen, strict=True)
    ]
    return Page(forecasts, base64.urlsafe_b64encode(json.dumps([series, *seen]).encode()).decode())


def read_cursor(cursor: str | None, series: str, indexes: int) -> list[str]:
    """Of each index the id seen last, empty where none was. Raises RequestError."""
    if cursor is None:
        return [""] * indexes
    try:
        of, *stated = json.loads(base64.b64decode(cursor, altchars=b"-_", validate=True))
    except (binascii.Error, ValueError, TypeError):
        of, stated = None, []
    seen = [one for one in stated if isinstance(one, str)]
    if of != series or len(seen) != indexes or len(stated) != indexes:
        raise RequestError(
            f"The cursor is none that this server gave for {series.replace(':', ' ')}: take the address in next of a page "
            f"as it is, or leave the cursor out to begin anew.",
            field="cursor",
        )
    return seen
