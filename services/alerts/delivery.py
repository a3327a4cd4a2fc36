"""Delivers what waits in the outboxes, each channel in a thread of its own, so that none waits for another.

What a channel does not take stays in its outbox and is tried again after pauses that grow, for a day. Several processes may
serve the same outbox: who takes a message has it for a minute.
"""

from __future__ import annotations

import time
from threading import Event, Thread

from services.alerts.channels import Channel
from services.alerts.metrics import DELIVERED_AT, DELIVERIES, TALLY
from shared.alert_store import AlertStore, Parcel
from shared.errors import StoreUnavailableError
from shared.logs import get_logger

LOOK_EVERY_S = 1.0

log = get_logger(__name__)


class Delivery:
    """All channels. `stop` ends each thread after the message that it is at."""

    def __init__(self, channels: list[Channel], store: AlertStore, stop: Event) -> None:
        self._store = store
        self._stop = stop
        self._threads = [Thread(target=self._serve, args=(one,), name=one.label, daemon=True) for one in channels]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def join(self, seconds: float) -> None:
        """Wait for about so long, for each thread, until what is being sent has been sent."""
        for thread in self._threads:
            thread.join(seconds)

    def _serve(self, channel: Channel) -> None:
        """Whatever goes wrong with one message, or with Redis, the channel is served on."""
        while not self._stop.is_set():
            try:
                if (parcel := self._store.take(channel.label)) is not None:
                    self._deliver(channel, parcel)
                    continue
            except StoreUnavailableError:
                pass  # who watches says so
            except Exception as error:  # its own words may hold the address, so its kind alone is told
                log.error("alert_not_delivered", channel=channel.label, reason=type(error).__name__)
            self._stop.wait(LOOK_EVERY_S)

    def _deliver(self, channel: Channel, parcel: Parcel) -> None:
        told = {"channel": channel.label, "title": parcel.message.title, "waited_s": round(parcel.waited_s, 1)}
        reason = channel.send(parcel.message)
        if reason is None:
            TALLY.count(DELIVERIES, channel.scheme, "delivered")
            TALLY.set(DELIVERED_AT, time.time(), channel.scheme)
            self._store.delivered(channel.label, parcel)
            log.info("alert_delivered", **told)
        elif parcel.given_up:
            TALLY.count(DELIVERIES, channel.scheme, "given_up")
            self._store.delivered(channel.label, parcel)
            log.error("alert_given_up", reason=reason, **told)
        else:
            TALLY.count(DELIVERIES, channel.scheme, "put_off")
            self._store.put_off(channel.label, parcel)
            log.warning("alert_not_delivered", reason=reason, again_in_s=round(parcel.pause_s, 1), **told)
