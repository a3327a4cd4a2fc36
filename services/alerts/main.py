"""The entry points of alerts: watch until told to stop, say what would be told now, and try each channel."""

from __future__ import annotations

import signal
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from threading import Event

from services.alerts import messages
from services.alerts.channels import Channel, open_channels, silence_libraries
from services.alerts.delivery import Delivery
from services.alerts.judging import Judgement
from services.alerts.metrics import TALLY
from services.alerts.standing import Overlook
from services.alerts.watch import Asked, Watch, all_asked, judge
from shared.alert_rules import CoverageDrift
from shared.alert_store import AlertStore
from shared.errors import SettingsError, StoreUnavailableError
from shared.logs import configure_logs, get_logger
from shared.metrics_server import serve_metrics
from shared.settings import Settings

LOOK_EVERY_S = 1.0  # for a new forecast: as often as the page looks
SYSTEM_EVERY_S = 5.0
SIGN_OF_LIFE_EVERY_S = 20.0
SENT_WITHIN_S = 10.0  # what is being sent when we are told to stop; later it is sent again by whoever watches next

log = get_logger(__name__)


def run(settings: Settings) -> None:
    """Watch and tell until SIGTERM or SIGINT. Raises SettingsError where there is nothing to tell, or nowhere to."""
    configure_logs(settings.logs, "alerts")
    silence_libraries()
    channels = _channels_for_rules(settings)
    stop = Event()
    for sent in (signal.SIGTERM, signal.SIGINT):
        signal.signal(sent, lambda *_: stop.set())
    overlook = Overlook(settings)
    store = AlertStore(overlook.redis)
    watch = Watch(settings, overlook, store, [one.label for one in channels], _now_ms)
    delivery = Delivery(channels, store, stop)
    serve_metrics(settings.metrics, "alerts", TALLY.exposition)
    delivery.start()
    log.info("alerts_started", rules=len(settings.alerts.rules), channels=[one.label for one in channels])
    _look_until(stop, watch, store)
    delivery.join(SENT_WITHIN_S)
    log.info("alerts_stopped")


@dataclass
class _Turn:
    """Something that is done again and again."""

    do: Callable[[], None]
    every_s: float
    next_at: float = 0.0  # by the monotonic clock


def _look_until(stop: Event, watch: Watch, store: AlertStore) -> None:
    """Look again and again. That Redis cannot be asked is logged once, and that it can again; nothing is told meanwhile."""
    host, away = socket.gethostname(), False
    turns = [
        _Turn(watch.look_at_forecasts, LOOK_EVERY_S),
        _Turn(watch.look_at_system, SYSTEM_EVERY_S),
        _Turn(lambda: store.give_sign_of_life(host), SIGN_OF_LIFE_EVERY_S),
    ]
    while not stop.is_set():
        try:
            for turn in turns:
                if time.monotonic() >= turn.next_at:
                    turn.do()
                    turn.next_at = time.monotonic() + turn.every_s
                    if away:
                        log.info("alerts_can_look_again")
                    away = False
        except StoreUnavailableError as error:
            if not away:
                log.warning("alerts_cannot_look", reason=error.message)
            away = True
            stop.wait(LOOK_EVERY_S)
        stop.wait(max(0.0, min(turn.next_at for turn in turns) - time.monotonic()))


def check(settings: Settings) -> Iterator[tuple[Asked, Judgement]]:
    """Each rule with each of its series, and what it says now. Raises StoreUnavailableError."""
    asked = all_asked(settings)
    series = {one.series for one in asked if one.series}
    drift_of = {one.series for one in asked if one.series and isinstance(one.rule, CoverageDrift)}
    standing = Overlook(settings).standing(series, drift_of, _now_ms())
    return ((one, judge(one, standing)) for one in asked)


def try_channels(settings: Settings) -> Iterator[tuple[str, str | None]]:
    """Send a test message to each channel; its label, and why it was not taken, if so. Raises SettingsError."""
    channels, message = _channels(settings), messages.of_test(_now_ms(), settings.alerts.page_url)

    def sent(channel: Channel) -> tuple[str, str | None]:
        return channel.label, channel.send(message)

    with ThreadPoolExecutor(len(channels)) as side_by_side:
        yield from side_by_side.map(sent, channels)


def _channels(settings: Settings) -> list[Channel]:
    channels = open_channels(settings.alerts)
    if not channels:
        raise SettingsError(
            "alerts.channels is empty, and alerts.channel_file names none, so there is nowhere to send a message: name one, as "
            "in KRONOS_ALERTS__CHANNELS=json://127.0.0.1:8080/hook.",
            field="alerts.channels",
        )
    return channels


def _channels_for_rules(settings: Settings) -> list[Channel]:
    if not settings.alerts.enabled:
        raise SettingsError(
            "alerts.enabled (KRONOS_ALERTS__ENABLED) is false, so no message may be sent: set it to true; `kronos-live alerts "
            "check` and `test` work without.",
            field="alerts.enabled",
        )
    if not settings.alerts.rules:
        raise SettingsError(
            "alerts.rules is empty, so there is nothing to tell of: write one, as in [{when: upside_above, level: 0.7}].",
            field="alerts.rules",
        )
    return _channels(settings)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
