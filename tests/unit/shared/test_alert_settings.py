"""The rules and channels of alerts as they may be written, and one sentence for whatever is wrong with them."""

from __future__ import annotations

from pathlib import Path

import pytest

from shared.alert_channels import channels_of_file
from shared.alert_rules import BandTouches, UpsideAbove, WorkerGone
from shared.errors import SettingsError
from shared.klines import Interval
from shared.settings import AlertSettings, load_settings


def of_file(folder: Path, alerts: str) -> AlertSettings:
    file = folder / "mine.yaml"
    file.write_text(f"alerts:\n{alerts}")
    return load_settings(file).alerts


def test_as_delivered_the_system_is_watched_and_nothing_is_sent() -> None:
    alerts = load_settings().alerts
    assert [rule.when for rule in alerts.rules] == ["missed_update", "worker_gone", "simulated_data", "coverage_drift"]
    assert (alerts.enabled, alerts.channels) == (False, ())


def test_rules_are_read_from_the_file_each_of_its_kind(tmp_path: Path) -> None:
    alerts = of_file(
        tmp_path,
        """
  rules:
    - {when: upside_above, level: 0.7, series: "ETHUSDT:4h", name: Ether may rise, cool_down: 60}
    - {when: band_touches, price: 100000}
    - {when: worker_gone, fewer_than: 3}
""",
    )
    above, touches, gone = alerts.rules
    assert isinstance(above, UpsideAbove)
    assert (above.title, above.named_series, above.cool_down) == ("Ether may rise", ("ETHUSDT", Interval.H4), 60)
    assert isinstance(touches, BandTouches)
    assert (touches.band, touches.title, touches.named_series) == (80, "80 % band touches 100000", None)
    assert isinstance(gone, WorkerGone)
    assert gone.title == "fewer than 3 workers"


def test_the_environment_writes_rules_as_the_file_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(
        "KRONOS_ALERTS__RULES", "[{when: upside_below, level: 0.25}, {when: volatility_above, level: 0.9}]"
    )
    assert [rule.title for rule in load_settings().alerts.rules] == [
        "upside below 25 %",
        "volatility amplification above 90 %",
    ]


def test_a_rule_is_the_same_whatever_it_is_called() -> None:
    first = UpsideAbove(when="upside_above", level=0.7)
    assert first.key == first.model_copy(update={"name": "another", "cool_down": 5}).key
    assert first.key != first.model_copy(update={"level": 0.71}).key


OK = "{when: missed_update}"


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        (
            "{when: upside_above, level: 1.5}",
            r"alerts.rules\[1\].level is 1.5, but allowed is a number above 0 and below 1",
        ),
        ("{when: upside_below, level: .nan}", r"alerts.rules\[1\].level is nan, but allowed is a number above 0"),
        (
            "{when: volatility_above}",
            r"alerts.rules\[1\].level is not there, but allowed is a number above 0 and below 1",
        ),
        ("{when: band_touches, price: -1}", r"alerts.rules\[1\].price is -1, but allowed is a number above 0"),
        ("{when: band_touches, price: .inf}", r"alerts.rules\[1\].price is inf, but allowed is a number above 0"),
        (
            "{when: band_touches, price: 1, band: 90}",
            r"alerts.rules\[1\].band is 90, but allowed is one of 50, 80, 95",
        ),
        ("{when: worker_gone, fewer_than: 0}", r"alerts.rules\[1\].fewer_than is 0, but allowed is .* from 1 to 10000"),
        ("{when: worker_gone, series: 'BTCUSDT:1h'}", r"alerts.rules\[1\].series is no knob of worker_gone"),
        (
            "{when: coverage_drift, series: BTCUSDT}",
            r"alerts.rules\[1\].series is 'BTCUSDT', but allowed is a symbol and",
        ),
        (
            "{when: coverage_drift, cool_down: -1}",
            r"alerts.rules\[1\].cool_down is -1, but allowed is .* from 0 to 604800",
        ),
        ("{when: simulated_data, name: ''}", r"alerts.rules\[1\].name is '', but allowed is 1 to 80 characters"),
        (
            "{when: full_moon}",
            r"alerts.rules\[1\].when is 'full_moon', but allowed is one of upside_above, upside_below",
        ),
        ("{level: 0.5}", r"alerts.rules\[1\].when is 'not there', but allowed is one of upside_above"),
        ("loud", r"alerts.rules\[1\] is 'loud', but allowed is a rule such as"),
        (OK, r"alerts.rules\[1\] \(missed update\) says what alerts.rules\[0\] says"),
    ],
)
def test_a_wrong_rule_is_told_in_one_sentence_that_names_the_knob(tmp_path: Path, rule: str, said: str) -> None:
    with pytest.raises(SettingsError, match=said) as caught:
        of_file(tmp_path, f"  rules: [{OK}, {rule}]\n")
    assert "\n" not in str(caught.value)


def test_two_rules_of_one_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(
        SettingsError, match=r"alerts.rules\[1\].name is 'x', which alerts.rules\[0\] is called as well"
    ):
        of_file(tmp_path, "  rules: [{when: missed_update, name: x}, {when: worker_gone, name: x}]\n")


@pytest.mark.parametrize(
    ("knob", "value", "said"),
    [
        (
            "COOL_DOWN",
            "-1",
            r"alerts.cool_down \(KRONOS_ALERTS__COOL_DOWN\) is '-1', but allowed is a whole number from 0",
        ),
        ("PAGE_URL", "example.org", r"alerts.page_url .* is 'example.org', but allowed is an address that begins with"),
        ("RULES", "upside", r"alerts.rules .* is 'upside', but allowed is a list of at most 64 rules"),
        ("RULES", "[", r"alerts.rules .* is '\[', but allowed is a list of at most 64 rules"),
    ],
)
def test_a_wrong_knob_is_named(monkeypatch: pytest.MonkeyPatch, knob: str, value: str, said: str) -> None:
    monkeypatch.setenv(f"KRONOS_ALERTS__{knob}", value)
    with pytest.raises(SettingsError, match=said):
        load_settings()


def test_channels_are_split_where_another_begins_and_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KRONOS_ALERTS__CHANNELS", "mailto://me:geheim@host?to=a@b,c@d, json://host/geheim")
    alerts = load_settings().alerts
    assert [one.get_secret_value() for one in alerts.channels] == [
        "mailto://me:geheim@host?to=a@b,c@d",
        "json://host/geheim",
    ]
    assert "geheim" not in repr(alerts) + alerts.model_dump_json()


@pytest.mark.parametrize("written", ["json:/host/geheim", "geheim", "json://"])
def test_what_is_no_address_is_refused_without_being_shown(monkeypatch: pytest.MonkeyPatch, written: str) -> None:
    monkeypatch.setenv("KRONOS_ALERTS__CHANNELS", f"json://host, {written}" if "://" in written else written)
    with pytest.raises(
        SettingsError, match=r"alerts.channels\[\d\] \(not shown, since it may hold a secret\)"
    ) as caught:
        load_settings()
    assert "geheim" not in str(caught.value)


def test_channels_of_the_wrong_type_are_not_shown_either(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"alerts.channels.* is set to a value that is not shown") as caught:
        of_file(tmp_path, "  channels: {json: geheim}\n")
    assert "geheim" not in str(caught.value)


def test_a_file_holds_a_channel_a_line(tmp_path: Path) -> None:
    file = tmp_path / "channels"
    file.write_text("# ours\n\n  json://host/geheim  \nslack://a/b/c\n")
    assert [one.get_secret_value() for one in channels_of_file(str(file))] == ["json://host/geheim", "slack://a/b/c"]


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"json://a\ngeheim", "whose line 2 .not shown"), (b"\xff\xfe", "it is not text"), (None, "No such file")],
)
def test_a_file_of_no_use_is_named_without_its_content(tmp_path: Path, content: bytes | None, said: str) -> None:
    file = tmp_path / "channels"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(SettingsError, match=said) as caught:
        channels_of_file(str(file))
    assert "alerts.channel_file" in str(caught.value)
    assert "geheim" not in str(caught.value)
