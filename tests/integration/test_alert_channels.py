"""Channels of alerts: a webhook and a mail server of our own, what is said of one that takes nothing, and never a secret."""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterator
from email import message_from_bytes
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from pydantic import SecretStr

from services.alerts import channels
from services.alerts.channels import open_channels
from shared.alert_store import Message
from shared.errors import SettingsError
from tests.alert_receiver import SECRET, Receiver, receiver
from tests.builders import settings
from tests.conftest import free_port
from tests.integration.conftest import Run

MESSAGE = Message(kind="alert", title="Kronos Live: BTCUSDT 1h: upside above 70 %", body="It is 74.0 %.\nLevel 70 %.")
NOWHERE = "redis://127.0.0.1:1/0"


def opened(*addresses: str, file: str = "") -> list[channels.Channel]:
    named = tuple(SecretStr(one) for one in addresses)
    return open_channels(settings().alerts.model_copy(update={"channels": named, "channel_file": file}))


@pytest.fixture
def hook() -> Iterator[Receiver]:
    with receiver() as one:
        yield one


class Postbox:
    """What a mail server was handed."""

    def __init__(self) -> None:
        self.letters: list[Any] = []

    async def handle_DATA(self, server: object, session: object, envelope: Any) -> str:  # noqa: N802, ARG002 - aiosmtpd's names
        self.letters.append(envelope)
        return "250 OK"


@pytest.fixture
def mail() -> Iterator[tuple[Postbox, int]]:
    postbox = Postbox()
    server = Controller(postbox, hostname="127.0.0.1", port=free_port())
    server.start()
    try:
        yield postbox, server.port
    finally:
        server.stop()


def test_a_webhook_gets_title_message_and_kind(hook: Receiver) -> None:
    [channel] = opened(hook.address)
    assert channel.send(MESSAGE) is None
    [got] = hook.received
    assert (got["title"], got["message"], got["type"]) == (MESSAGE.title, MESSAGE.body, "warning")


def test_a_mail_server_gets_a_letter(mail: tuple[Postbox, int]) -> None:
    postbox, port = mail
    [channel] = opened(f"mailto://127.0.0.1:{port}?from=kronos@example.org&to=you@example.org")
    assert channel.send(MESSAGE) is None
    [letter] = postbox.letters
    read = message_from_bytes(letter.content)
    assert letter.rcpt_tos == ["you@example.org"]
    assert MESSAGE.title in str(read["Subject"])
    assert any("It is 74.0 %." in str(part.get_payload(decode=True), "utf-8") for part in leaves(read))


def leaves(letter: Any) -> list[Any]:
    return [part for part in letter.walk() if not part.is_multipart()]


def test_why_a_channel_took_nothing_is_told_without_what_it_said(hook: Receiver) -> None:
    [channel] = opened(hook.address)
    hook.status = 403
    assert channel.send(MESSAGE) == "it answered with HTTP status 403"
    [nobody] = opened(f"json://127.0.0.1:{free_port()}/{SECRET}")
    assert nobody.send(MESSAGE) == "it could not be reached, or refused the message"


def test_a_channel_that_never_answers_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channels, "ANSWERS_WITHIN_S", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        [channel] = opened(f"json://127.0.0.1:{silent.getsockname()[1]}/?rto=60")
        assert channel.send(MESSAGE) == "it did not answer within 0.5 s"


def test_labels_tell_channels_apart_and_hold_no_secret(tmp_path: Path) -> None:
    file = tmp_path / "channels"
    file.write_text("slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ\n")
    found = opened(
        f"json://me:{SECRET}@127.0.0.1:9/{SECRET}?-key={SECRET}",
        f"json://127.0.0.1:9/other-{SECRET}",
        "tgram://123456789:abcdefg_hijklmnop/12315544/",
        "discord://4174216298/JHMHI8qBe7bk2ZwO5U711o3dV_js",
        f"mailtos://me:{SECRET}@example.org",
        file=str(file),
    )
    assert [one.label for one in found] == [
        "json://127.0.0.1:9",
        "json://127.0.0.1:9 #2",
        "tgram:// (Telegram)",
        "discord:// (Discord)",
        "mailtos://example.org:587",
        "slack:// (Slack)",
    ]


@pytest.mark.parametrize("address", [f"jsonx://host/{SECRET}", f"tgram://{SECRET}", f"slack://{SECRET}"])
def test_an_address_of_no_use_is_named_and_not_shown(
    address: str, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SettingsError, match=r"alerts.channels\[1\] is an address that begins with \w+://") as caught:
        opened("json://127.0.0.1:9", address)
    assert SECRET not in str(caught.value) + caplog.text + "".join(capfd.readouterr())


def test_nothing_that_the_libraries_say_reaches_a_log(hook: Receiver, capfd: pytest.CaptureFixture[str]) -> None:
    root, heard = logging.getLogger(), _Heard()
    level = root.level
    root.addHandler(heard)
    root.setLevel(logging.DEBUG)
    try:
        for status in (200, 500):
            hook.status = status
            opened(hook.address)[0].send(MESSAGE)
        opened(f"json://127.0.0.1:{free_port()}/{SECRET}")[0].send(MESSAGE)
    finally:
        root.removeHandler(heard)
        root.setLevel(level)
    assert len(hook.received) == 1
    assert SECRET not in "\n".join(heard.lines) + "".join(capfd.readouterr())


class _Heard(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


def test_the_test_command_tries_each_channel_without_redis(run: Run, hook: Receiver) -> None:
    taken = run("alerts", "test", KRONOS_ALERTS__CHANNELS=hook.address, KRONOS_REDIS__URL=NOWHERE)
    assert (taken.returncode, taken.stdout) == (0, f"json://127.0.0.1:{hook.port}: taken\n")
    assert hook.titles == ["Kronos Live: test"]


def test_the_test_command_ends_with_1_where_one_took_nothing(run: Run, hook: Receiver, tmp_path: Path) -> None:
    file, away = tmp_path / "channels", free_port()
    file.write_text(f"json://127.0.0.1:{away}/{SECRET}\n")
    tried = run(
        "alerts",
        "test",
        KRONOS_ALERTS__CHANNELS=hook.address,
        KRONOS_ALERTS__CHANNEL_FILE=str(file),
        KRONOS_REDIS__URL=NOWHERE,
    )
    assert tried.returncode == 1
    assert tried.stdout.splitlines() == [
        f"json://127.0.0.1:{hook.port}: taken",
        f"json://127.0.0.1:{away}: not taken, it could not be reached, or refused the message",
    ]
    assert "1 of the channels did not take the message" in tried.stderr
    assert SECRET not in tried.stdout + tried.stderr


def test_without_a_channel_the_test_command_names_the_knob(run: Run) -> None:
    tried = run("alerts", "test")
    assert (tried.returncode, "alerts.channels is empty" in tried.stderr) == (2, True)
