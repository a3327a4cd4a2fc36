"""`alerts.channels`: the addresses that alerts are sent to, as they may be written. They carry secrets, and no message here
shows more of one than how it begins. What a scheme means is known to services/alerts.
"""

from __future__ import annotations

import re
from pathlib import Path

from pydantic import BeforeValidator, SecretStr

from shared.errors import SettingsError

MOST_CHANNELS = 32
_SCHEME = re.compile(r"^([a-z][a-z0-9+.-]*)://\S", re.IGNORECASE)
# A comma within an address is one of its own, unless another address begins behind it.
_BETWEEN = re.compile(r",\s*(?=[A-Za-z][A-Za-z0-9+.-]*://)")
ALLOWED = "an address of apprise such as json://host/path, tgram://token/chat, discord://id/token, slack://... or mailto://..."


def _split(value: object) -> object:
    if not isinstance(value, str):
        return value
    return tuple(part.strip() for part in _BETWEEN.split(value) if part.strip())


AddressesAsWritten = BeforeValidator(_split)


def refuse_what_is_no_address(channels: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
    for place, channel in enumerate(channels):
        if not _SCHEME.match(channel.get_secret_value()):
            raise ValueError(f"alerts.channels[{place}] (not shown, since it may hold a secret) is not {ALLOWED}")
    return channels


def channels_of_file(name: str) -> tuple[SecretStr, ...]:
    """The addresses in the file that alerts.channel_file names, one a line; lines that begin with # are for people.

    Raises SettingsError.
    """
    knob = f"alerts.channel_file (KRONOS_ALERTS__CHANNEL_FILE) is {name!r}"
    try:
        lines = Path(name).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "it is not text"
        raise SettingsError(
            f"{knob}, which cannot be read ({why}): name a file that holds one channel's address a line."
        ) from None
    found = []
    for number, line in enumerate(lines, start=1):
        address = line.strip()
        if not address or address.startswith("#"):
            continue
        if not _SCHEME.match(address):
            raise SettingsError(
                f"{knob}, whose line {number} (not shown, since it may hold a secret) is not {ALLOWED}."
            )
        found.append(SecretStr(address))
    return tuple(found)
