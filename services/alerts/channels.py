"""Where messages go: an address of apprise, called by a label that holds no secret, which takes a message or says why not.

Addresses carry tokens and passwords, and apprise, urllib3 and the servers that they talk to repeat them in what they log. So
nothing that these say is passed on: of a failure only the number of an HTTP status is taken over.
"""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Sequence
from typing import cast

from apprise import Apprise, AppriseResult, AppriseResultStatus, NotifyBase, NotifyFormat, NotifyType
from pydantic import SecretStr

from shared.alert_channels import channels_of_file
from shared.alert_store import Message
from shared.errors import SettingsError
from shared.settings import AlertSettings

ANSWERS_WITHIN_S = 20  # a channel, from the first byte to the last; less than the lease of a message
TYPES = {"alert": NotifyType.WARNING, "over": NotifyType.SUCCESS, "test": NotifyType.INFO}
_STATUS = re.compile(r"error=(\d{3})\b")
_TALKATIVE = ("apprise", "urllib3", "requests", "requests_oauthlib", "oauthlib", "charset_normalizer")


def silence_libraries() -> None:
    """Nothing that the libraries say reaches a log of ours: any line may hold an address. Call it after `configure_logs`."""
    for name in _TALKATIVE:
        logger = logging.getLogger(name)
        logger.handlers[:] = [logging.NullHandler()]
        logger.propagate = False


class Channel:
    """One address. `label` tells it from the others; it and the `scheme` may be shown, logged and stored."""

    def __init__(self, service: NotifyBase, label: str) -> None:
        self.label = label
        self.scheme = _scheme(service)
        self._apprise = Apprise()
        self._apprise.add(service)

    def send(self, message: Message) -> str | None:
        """None where the message was taken, else why not, without a secret. Returns in ANSWERS_WITHIN_S or a little later."""
        result = self._apprise.notify(
            title=message.title,
            body=message.body,
            notify_type=TYPES[message.kind],
            body_format=NotifyFormat.TEXT,
            timeout=ANSWERS_WITHIN_S,
        )
        with result:
            return None if result else _reason(result)


def open_channels(settings: AlertSettings) -> list[Channel]:
    """All that the settings name, those of the file last. Raises SettingsError for an address that is of no use."""
    silence_libraries()
    in_file = channels_of_file(settings.channel_file) if settings.channel_file else ()
    services = [
        *(_service(address, f"alerts.channels[{place}]") for place, address in enumerate(settings.channels)),
        *(_service(address, f"channel {place + 1} of alerts.channel_file") for place, address in enumerate(in_file)),
    ]
    return [Channel(one, label) for one, label in zip(services, _labels(services), strict=True)]


def _service(address: SecretStr, knob: str) -> NotifyBase:
    found = Apprise.instantiate(address.get_secret_value(), suppress_exceptions=True)
    if found is None:
        scheme = address.get_secret_value().partition("://")[0]
        raise SettingsError(
            f"{knob} is an address that begins with {scheme}:// (the rest is not shown, since it may hold a secret), which "
            f"apprise does not know or finds incomplete: look up how it is written at https://appriseit.com/services/."
        )
    return found


def _labels(services: Sequence[NotifyBase]) -> list[str]:
    """Scheme and host where the address names a host, else scheme and service: what stands in a host's place may be a token.

    The second of the same label is called #2.
    """
    plain = [_label(one) for one in services]
    seen: Counter[str] = Counter()
    labels = []
    for label in plain:
        seen[label] += 1
        labels.append(label if seen[label] == 1 else f"{label} #{seen[label]}")
    return labels


def _label(service: NotifyBase) -> str:
    scheme = _scheme(service)
    if any("{host}" in str(template) for template in cast("Sequence[object]", service.templates)):
        return f"{scheme}://{service.host}{f':{service.port}' if service.port else ''}"
    return f"{scheme}:// ({service.service_name})"


def _scheme(service: NotifyBase) -> str:
    return service.schema if isinstance(service.schema, str) else "unknown"


def _reason(result: AppriseResult) -> str:
    if result.status is AppriseResultStatus.TIMEOUT:
        return f"it did not answer within {ANSWERS_WITHIN_S} s"
    for entry in result.logs():
        if found := _STATUS.search(entry.message):
            return f"it answered with HTTP status {found[1]}"
    return "it could not be reached, or refused the message"
